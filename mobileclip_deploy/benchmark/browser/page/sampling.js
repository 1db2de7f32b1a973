// Fewest steps of the clock that a measured time needs.
const STEPS = 100;

/** Number of inferences in a sample. `inference`: nanoseconds of one inference; `step`: of the browser's clock. */
export function inferencesPerSample(inference, step) {
  return Math.max(1, Math.ceil((STEPS * step) / Math.max(inference, step)));
}
