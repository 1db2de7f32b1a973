import * as ort from "onnxruntime-web/wasm"; // without WebGPU: its WebAssembly is smaller
import { MobileCLIP } from "mobileclip";
import { serve } from "mobileclip/worker";

serve(() => MobileCLIP.load("/bundle/", ort)); // from the site's root: bundlers move a worker's file
