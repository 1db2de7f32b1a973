"""Texts in 20 languages, and a vocabulary of SentencePiece's kind that is learned from them: Gemma's own is not here.

It has the settings of SigLIP2's: BPE over whole texts, bytes for unknown characters, no blank in front, the
special tokens <pad>, <eos>, <bos>, <unk> and <mask> as ids 0 to 4, then the bytes.
"""

import itertools
import json
import random
from functools import cache
from typing import Any

PHRASES: dict[str, tuple[str, ...]] = {
    "ar": ("قطة نائمة على الأريكة", "طفل يلعب بالكرة", "جبل مغطى بالثلج", "سوق قديم في المساء"),
    "bn": ("বিছানায় ঘুমন্ত বিড়াল", "মাঠে ফুটবল খেলা", "নদীর ধারে গাছ", "লাল ফুলের বাগান"),
    "cs": ("kočka spí na pohovce", "děti hrají fotbal", "zasněžené hory", "starý most přes řeku"),
    "de": ("eine Katze schläft auf dem Sofa", "Kinder spielen Fußball", "verschneite Berge", "grüner Straßenzug"),
    "el": ("μια γάτα κοιμάται στον καναπέ", "παιδιά παίζουν μπάλα", "χιονισμένα βουνά", "ΠΑΛΙΟΣ ΔΡΟΜΟΣ"),
    "en": ("a cat asleep on the sofa", "children playing football", "snowy mountains", "an old bridge over a river"),
    "es": ("un gato duerme en el sofá", "niños jugando al fútbol", "montañas nevadas", "¿un puente viejo?"),
    "fa": ("گربه\u200cای روی مبل خوابیده", "کودکان فوتبال بازی می\u200cکنند", "کوه برفی", "پل قدیمی"),
    "fi": ("kissa nukkuu sohvalla", "lapset pelaavat jalkapalloa", "lumiset vuoret", "vanha silta joen yli"),
    "fr": ("un chat dort sur le canapé", "des enfants jouent au foot", "montagnes enneigées", "l'œuf du garçon"),
    "he": ("חתול ישן על הספה", "ילדים משחקים כדורגל", "הרים מושלגים", "גשר ישן מעל נהר"),
    "hi": ("सोफे पर सोती हुई बिल्ली", "फुटबॉल खेलते बच्चे", "बर्फीले पहाड़", "नदी पर पुराना पुल"),
    "it": ("un gatto dorme sul divano", "bambini che giocano a calcio", "montagne innevate", "perché no?"),
    "ja": ("ソファで眠る猫", "サッカーをする子供たち", "雪の積もった山", "川に架かる古い橋"),
    "ko": ("소파에서 자는 고양이", "축구하는 아이들", "눈 덮인 산", "강 위의 오래된 다리"),
    "pl": ("kot śpi na kanapie", "dzieci grają w piłkę nożną", "ośnieżone góry", "stary most nad rzeką"),
    "ru": ("кошка спит на диване", "дети играют в футбол", "заснеженные горы", "старый мост через реку"),
    "th": ("แมวนอนหลับบนโซฟา", "เด็กเล่นฟุตบอล", "ภูเขาหิมะ", "สะพานเก่าข้ามแม่น้ำ"),
    "tr": ("KEDİ kanepede uyuyor", "çocuklar futbol oynuyor", "karlı dağlar", "nehrin üzerinde eski köprü"),
    "zh": ("猫睡在沙发上", "孩子们在踢足球", "雪山", "河上的老桥，傍晚"),
}
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
JOINTS = (" ", ", ", " - ", "_", "\t", "  ", ": ", " 2024 ", "! ", " &amp; ", " 👍🏽 ", "“", " ▁ ")


def texts(language: str, count: int = 100) -> list[str]:
    """Different texts of a language: one to six phrases, with signs, digits and capitals between and in them."""
    made = random.Random(language)
    found: dict[str, None] = dict.fromkeys(PHRASES[language])
    while len(found) < count:
        parts = made.choices(PHRASES[language], k=made.choice((1, 2, 3, 6)))
        text = "".join(itertools.chain(*((part, made.choice(JOINTS)) for part in parts)))
        found[made.choice((str, str.upper, str.title, str.swapcase))(text)] = None
    return list(found)[:count]


@cache
def tokenizer_json(size: int = 900) -> str:
    """The text of a tokenizer.json as transformers writes SigLIP2's."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    learned = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    learned.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    learned.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # no piece crosses the end of a word
    first = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=first, show_progress=False, limit_alphabet=400)
    learned.train_from_iterator(itertools.chain(*PHRASES.values()), trainer)
    told: dict[str, Any] = json.loads(learned.to_str())
    told["added_tokens"] = [one for one in told["added_tokens"] if one["content"] in SPECIAL]
    told["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    return json.dumps(told, ensure_ascii=False, indent=2)
