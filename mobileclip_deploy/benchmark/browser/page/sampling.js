// A time of fewer steps of the clock than these says little.
const STEPS = 100;

/** How many inferences make one sample. `inference`: nanoseconds that one took; `step`: of the browser's clock. */
export function inferencesPerSample(inference, step) {
  return Math.max(1, Math.ceil((STEPS * step) / Math.max(inference, step)));
}
