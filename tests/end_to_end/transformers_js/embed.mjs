// Loads bundles from disk as an app with transformers.js would, and prints the embeddings as JSON.
// stdin: {"folder": ..., "image": file, "texts": [...], "bundles": [{"name": ..., "image": dtype, "text": dtype}, ...]}
import { readFileSync } from "node:fs";
import {
  AutoProcessor,
  AutoTokenizer,
  CLIPTextModelWithProjection,
  CLIPVisionModelWithProjection,
  RawImage,
  env,
} from "@huggingface/transformers";

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
  answers.push({
    name: bundle.name,
    pixels: pixels.pixel_values.dims,
    ids: tokens.input_ids.tolist().map((row) => row.map(Number)),
    image: rows(image_embeds),
    text: rows(text_embeds),
  });
}
process.stdout.write(JSON.stringify(answers));
