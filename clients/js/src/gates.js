// How near a tower's answers have to be to the checkpoint's, by its precision: tests hold this to mobileclip_deploy.parity.

const cosine = (bound) => ({ metric: "cosine", bound });

export const GATES = {
  fp32: { metric: "relative", bound: 1e-4 },
  fp16: cosine(0.999),
  w8: cosine(0.99),
  w8a16: cosine(0.99),
  w8a8: cosine(0.98),
  w6p: cosine(0.98),
  w4p: cosine(0.98),
  "w4p-p50": cosine(0.98),
  mixed: cosine(0.98),
  w4: cosine(0.98),
};
