// The client's own pipeline over a bundle's two files, as docs/start_browser.md has it; prints what it finds as JSON.
// Arguments: folder of bundles, name, logit scale, picture, template, labels...
import {
  AutoProcessor,
  AutoTokenizer,
  CLIPTextModelWithProjection,
  CLIPVisionModelWithProjection,
  Tensor,
  ZeroShotImageClassificationPipeline,
  env,
  matmul,
} from "@huggingface/transformers";

const [folder, name, scale, picture, hypothesis_template, ...labels] = process.argv.slice(2);
env.allowRemoteModels = false;
env.useFSCache = false;
env.localModelPath = folder;
const text = await CLIPTextModelWithProjection.from_pretrained(name, { dtype: "fp32" });
const image = await CLIPVisionModelWithProjection.from_pretrained(name, { dtype: "fp32" });
const model = async ({ input_ids, pixel_values }) => {
  const [count, length] = input_ids.dims; // padded to the longest text; the model takes 77, padded with 0
  const ids = new Tensor("int64", new BigInt64Array(count * 77), [count, 77]);
  for (let row = 0; row < count; row++) {
    ids.data.set(input_ids.data.subarray(row * length, (row + 1) * length), row * 77);
  }
  const { text_embeds } = await text({ input_ids: ids });
  const { image_embeds } = await image({ pixel_values });
  const cosines = await matmul(image_embeds.normalize(), text_embeds.normalize().transpose(1, 0));
  return { logits_per_image: cosines.mul(Number(scale)) };
};
model.config = { model_type: "clip" };
const pipe = new ZeroShotImageClassificationPipeline({
  task: "zero-shot-image-classification",
  model,
  tokenizer: await AutoTokenizer.from_pretrained(name),
  processor: await AutoProcessor.from_pretrained(name),
});
process.stdout.write(JSON.stringify(await pipe(picture, labels, { hypothesis_template })));
