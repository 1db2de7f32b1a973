// Loads bundles from disk as an app with transformers.js would, and prints the embeddings as JSON.
// stdin: {"folder": ..., "image": file, "texts": [...], "bundles": [{"name": ..., "image": dtype, "text": dtype}, ...],
// "photographs": [file, ...], "preprocess": ...}; photographs are embedded with the first bundle, as the client resizes
// them, and `prepared` as the demo page's resize.js does.
import { readFileSync } from "node:fs";
import {
  AutoProcessor,
  AutoTokenizer,
  CLIPTextModelWithProjection,
  CLIPVisionModelWithProjection,
  RawImage,
  Tensor,
  env,
} from "@huggingface/transformers";
import { prepare } from "./resize.mjs";

const job = JSON.parse(readFileSync(0, "utf-8"));
env.allowRemoteModels = false;
env.allowLocalModels = true;
env.useFSCache = false;
env.localModelPath = job.folder;

const rows = (tensor) => tensor.tolist();
const answers = [];
for (const bundle of job.bundles) {
  const processor = await AutoProcessor.from_pretrained(bundle.name);
  const tokenizer = await AutoTokenizer.from_pretrained(bundle.name);
  const vision = await CLIPVisionModelWithProjection.from_pretrained(bundle.name, { dtype: bundle.image });
  const text = await CLIPTextModelWithProjection.from_pretrained(bundle.name, { dtype: bundle.text });
  const pixels = await processor(await RawImage.read(job.image));
  const tokens = tokenizer(job.texts, { padding: "max_length", truncation: true });
  const { image_embeds } = await vision(pixels);
  const { text_embeds } = await text({ input_ids: tokens.input_ids });
  const [photographs, prepared] = [[], []];
  const { size } = job.preprocess;
  for (const file of answers.length ? [] : job.photographs) {
    const picture = (await RawImage.read(file)).rgb();
    photographs.push(rows((await vision(await processor(picture))).image_embeds)[0]);
    const own = prepare(picture.data, picture.width, picture.height, job.preprocess);
    const pixel_values = new Tensor("float32", own, [1, 3, size, size]);
    prepared.push(rows((await vision({ pixel_values })).image_embeds)[0]);
  }
  answers.push({
    name: bundle.name,
    pixels: pixels.pixel_values.dims,
    ids: tokens.input_ids.tolist().map((row) => row.map(Number)),
    image: rows(image_embeds),
    text: rows(text_embeds),
    photographs,
    prepared,
  });
}
process.stdout.write(JSON.stringify(answers));
