// The client's pipeline over a bundle's joint file, with nothing of ours; prints what it finds as JSON.
// Arguments: folder of bundles, name, dtype, picture, template, labels...
import { env, pipeline } from "@huggingface/transformers";

const [folder, name, dtype, picture, hypothesis_template, ...labels] = process.argv.slice(2);
env.allowRemoteModels = false;
env.useFSCache = false;
env.localModelPath = folder;
const classify = await pipeline("zero-shot-image-classification", name, { dtype });
process.stdout.write(JSON.stringify(await classify(picture, labels, { hypothesis_template })));
