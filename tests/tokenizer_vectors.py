"""Writes clients/vectors/tokenizer.json: 1,000 prompts of many scripts and open_clip's ids, for other languages.

python tests/tokenizer_vectors.py
"""

import json
import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import ftfy

from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TokenizerSpec, models_dir
from mobileclip_deploy.network.samples import prompts
from mobileclip_deploy.training.language.vocabulary import learned_vocabulary

FILE = Path(__file__).parents[1] / "clients" / "vectors" / "tokenizer.json"
COUNT = 1000

SENTENCES = """
a photo of a dog|Don't we've THEY'LL I'm you're he'd it's|3.14159 and 2,718 & 50% off!|tic-tac-toe (again?) #win @home
crème brûlée à la carte|Straße, Fuß und Öl|ÑANDÚ, pingüino y corazón|įėęčšž žąsis|Þórr og Æska|Đường phố Hà Nội
İstanbul'da ılık bir gün|příliš žluťoučký kůň|ZAŻÓŁĆ gęślą jaźń|românește țară|Собака бежит по пляжу|їжак і ґанок
нож и ћуприја|Γειά σου ΚΟΣΜΟΣ, ΣΟΦΟΣ|շուն և կատու|ძაღლი და კატა|כלב וחתול|صورة قطة نائمة|گربه خوابیده|لال پھول
बगीचे में एक लाल फूल|লাল ফুল|ਲਾਲ ਫੁੱਲ|લાલ ફૂલ|சிவப்பு மலர்|ఎర్ర పువ్వు|ಕೆಂಪು ಹೂವು|ചുവന്ന പൂവ്
රතු මල|แมวบนหน้าต่าง|ແມວ|མེ་ཏོག་དམར་པོ|ပန်းနီ|ወፍ እና ውሻ|ᎠᏓᏅᏙ|ᠮᠣᠩᠭᠣᠯ|ការ៉េ ផ្កា|夕焼けの海辺を走る犬
一只坐在窗台上的猫|紅色的花|빨간 꽃과 고양이|👩‍🚀 in space 🚀|🏳️‍🌈 🇫🇷|x² + y³ ≠ ½·π|→ ← ↔ ∀∃∑∫|№ 5 © ® ™|€ 5, £ 6, ¥ 7
<start_of_text> inside <end_of_text>|fish &amp; chips|&amp;amp;lt;|P&EACUTE;REZ &hearts; &#8364; &#x80;|this&not that
&unknown; &#0; &#99999999; &#xD800; &#13; &#64976;
“Curly” ‘quotes’ and it’s ‚low‛|ﬁsh oﬃce ﬂuﬀy|Ｆｕｌｌ　ｗｉｄｔｈ，ﾊﾟﾋﾟﾌﾟ
a <b>bold&amp;</b> word|ſtreet ŉ ŉ|''''ſ's're'ree'v|K Å Ω ǅ ĳ
&NTILDE; &nTILDE; &SZLIG; &GTCC; &AMP &ampamp; &notin; &notit;
""".strip().replace("\n", "|")
ESCAPED = (
    "e\u0301cole n\u0303u",
    "tab\tand\u00a0space\u2003wide\u0085",
    "a\u200bb\ufeffc\u206ad",
    "\x1b[31mred\x1b[0;1m \x1b[",
    "line\r\nbreak\u2028end\rof it",
    "\u0080\u0099 \u0093",
    "h\u0345n !\u0345 \u0345",
    "<\n&amp;\n> &amp;",
    "&amp; <\n&amp;",
    "",
    " \n ",
    "a" * 400,
    "word " * 100,
    "word " * 75,
    "word " * 76,
)


def odd_texts(seed: int) -> Iterator[str]:
    """Endless texts of letters, digits and signs from all over Unicode, entities and quotes among them.

    Of Unicode 3.2 alone: what that assigned, every later version treats alike.
    """
    generator = random.Random(seed)
    assigned = [chr(c) for c in range(0x20, 0x20000) if unicodedata.ucd_3_2_0.category(chr(c))[0] in "LMNPSZ"]
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789      '!?-.,"
    special = ["&amp;", "&eacute;", "&#x41;", "’", "“", "ﬁ", "Ａ", "\u3000", "\u0301", "Σ", "&lt", "\n", "'s"]
    while True:
        picks = []
        for _ in range(generator.randint(1, 60)):
            kind = generator.random()
            picks.append(generator.choice(plain if kind < 0.65 else assigned if kind < 0.92 else special))
        yield "".join(picks)


def is_mojibake(text: str) -> bool:
    """Whether ftfy takes it for text of another encoding: the one repair that other tokenizers need not have."""
    return ftfy.fix_text(text) != ftfy.fix_text(text, fix_encoding=False)


def learned_from_german() -> tuple[TokenizerSpec, list[str]]:
    """A vocabulary that a checkpoint may bring, and texts that it knows and that it does not."""
    file = models_dir() / "nano" / "evaluation" / "languages" / "de.txt"
    names = file.read_text(encoding="utf-8").splitlines()
    return learned_vocabulary(names, 2000, 24), [*names[::20], "собака", "it's 犬"]


def text_of_vectors() -> str:
    """The file's content."""
    found: dict[str, None] = {}
    for text in _texts():
        if not is_mojibake(text):
            found[text] = None
        if len(found) == COUNT:
            break
    rows = [
        json.dumps({"text": text, "ids": ids}, separators=(",", ":"))
        for text, ids in zip(found, _ids(list(found)), strict=True)
    ]
    return '{"schema_version":1,"context_length":77,"vectors":[\n' + ",\n".join(rows) + "\n]}\n"


def _ids(texts: list[str]) -> list[list[int]]:
    """Up to the end token: id 0 is "!" inside a word too, so the padding is cut off by the end, not by its value."""
    rows: list[list[int]] = encode(texts).tolist()
    ends = (max(index for index, id in enumerate(row) if id == 49407) for row in rows)
    return [row[: end + 1] for row, end in zip(rows, ends, strict=True)]


def _texts() -> Iterator[str]:
    yield from SENTENCES.split("|")
    yield from ESCAPED
    yield from prompts()
    yield from odd_texts(0)


if __name__ == "__main__":
    FILE.write_text(text_of_vectors(), encoding="utf-8")
