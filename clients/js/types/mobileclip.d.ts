/** An embedding of length 1, and the space that it belongs to. */
export interface Embedding {
  values: Float32Array;
  embeddingSpace: string;
}

/** `tokens`: how many the text has; `cut`: more than the network reads, and `rest` was left out. */
export interface TextEmbedding extends Embedding {
  tokens: number;
  cut: boolean;
  rest: string;
}

/** `found`: false where the nearest (`best`) is below what the query needs, or there is none. */
export interface Answer {
  matches: Match[];
  found: boolean;
  needed?: number;
  best?: number;
  bridgedFrom?: string;
}
export interface SearchOptions {
  top?: number;
  threshold?: number;
}

/** RGB or RGBA bytes, row by row, as ImageData has them. */
export interface Picture {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

export type Tower = "image" | "text";
export type Read = (name: string) => Promise<ArrayBuffer>;
export interface Gate {
  metric: "cosine" | "relative";
  bound: number;
}
export interface TowerTest extends Gate {
  tower: Tower;
  inputs: number;
  cosine: number;
  relative: number;
  passed: boolean;
}
export interface Classification {
  label: string;
  probability: number;
}
/** Labels to classify pictures with, embedded once; `bias`: of a network that judges each label alone. */
export interface Labels {
  readonly names: string[];
  readonly vectors: Float32Array[];
  readonly scale: number;
  readonly bias?: number | null;
  readonly embeddingSpace: string;
  classify(embedding: Embedding): Classification[];
}
/** Labels that were learned from pictures (`labels.safetensors`), for a bundle with embeddings. */
export class LearnedLabels {
  static open(bytes: ArrayBuffer | Uint8Array): LearnedLabels;
  readonly names: string[];
  readonly embeddingSpace: string;
  /** All labels and "none of these". */
  classify(embedding: Embedding): Classification[];
  /** Labels that are present; empty where none of them is. */
  tags(embedding: Embedding): Classification[];
}

/** A dimension of a tower: 0, null or a name where it is free. */
export type Dimension = number | string | null;
export interface TowerEntry {
  file: string;
  precision: string;
  input: { name: string; dtype: string; shape: Dimension[]; range?: [number, number] | null };
  output: { name: string; dtype: string; shape: Dimension[] };
}
/** What is used of a bundle's manifest.json. */
export interface Manifest {
  schema_version: number;
  variant: string;
  target: string;
  embedding_space: string;
  embed_dim: number;
  int8_scale?: number | null;
  logit_scale: number;
  logit_bias?: number | null;
  template: string;
  towers: Partial<Record<Tower, TowerEntry>>;
  tokenizer?: (TokenizerSettings & { kind?: string }) | null;
  preprocess: Preprocess;
  classifier?: { labels: string[]; tags?: { thresholds: { ratios: number[]; share: number } } | null } | null;
}

/** What is used of OWNER--NAME.lock.json, which `publish` writes. */
export interface Lock {
  schema_version: number;
  repository: string;
  commit: string;
  bundles: string[];
  files: Record<string, { sha256: string }>;
}

/** What is used of onnxruntime-web or onnxruntime-node. */
export interface Runtime {
  InferenceSession: { create(model: Uint8Array, options?: object): Promise<unknown> };
  Tensor: new (...given: never[]) => unknown;
}

export type ErrorCode = "bundle" | "newer" | "space" | "picture" | "range" | "query" | "index" | "cancelled";
export class MobileCLIPError extends Error {
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown });
  readonly code: ErrorCode;
}

export class MobileCLIP {
  static load(
    bundle: string | URL | Read,
    ort: Runtime,
    options?: { towers?: Tower[]; session?: object; lock?: Lock },
  ): Promise<MobileCLIP>;
  readonly manifest: Manifest;
  readonly embeddingSpace: string;
  readonly imageSize: number;
  /** Undefined where the text tower was not loaded. */
  readonly tokenizer?: Tokenizer;
  prepare(picture: Picture): Float32Array;
  embedText(text: string): Promise<TextEmbedding>;
  embedTexts(texts: string[]): Promise<TextEmbedding[]>;
  embedImage(picture: Picture): Promise<Embedding>;
  embedImages(
    pictures: Iterable<Picture> | AsyncIterable<Picture>,
    options?: { onProgress?: (done: number) => void; signal?: AbortSignal },
  ): Promise<Embedding[]>;
  embedPixels(values: Float32Array): Promise<Embedding>;
  labels(names: string[], template?: string): Promise<Labels>;
  classify(picture: Picture): Promise<Classification[]>;
  /** Labels that are present, of a bundle of `export --examples`; empty where none of them is. */
  tags(picture: Picture): Promise<Classification[]>;
  needed(text: TextEmbedding, size: number): Promise<number | undefined>;
  search(index: Index, query: string | Embedding, options?: SearchOptions): Promise<Answer>;
  selfTest(options?: { gates?: Partial<Record<Tower, Gate>> }): Promise<TowerTest[]>;
}

export interface Match {
  id: string;
  row: number;
  score: number;
}
export class Index {
  static open(bytes: ArrayBuffer | Uint8Array): Index;
  readonly length: number;
  readonly dimension: number;
  readonly store: "int8" | "float16" | "float32" | "bits" | "bits-only";
  readonly embeddingSpace: string;
  readonly description: { embedding_space: string; variant: string; tower: Tower; bridged_from?: string };
  /** The numbers of the rows that are there, in ascending order, and their ids, in the same order. */
  readonly rows: number[];
  readonly ids: string[];
  id(row: number): string;
  row(id: string): number | undefined;
  contains(id: string): boolean;
  /** Stamp that differs if a picture has changed since it was embedded; 0n where its writer gave none. */
  stamp(row: number): bigint;
  search(query: Embedding | ArrayLike<number>, top?: number): Match[];
}

/** Adds pictures to an index of int8: an app keeps its own library, and every client and Python read it. */
export class IndexWriter {
  static create(manifest: Pick<Manifest, "embedding_space" | "variant" | "embed_dim" | "int8_scale">): IndexWriter;
  static open(bytes: ArrayBuffer | Uint8Array): IndexWriter;
  /** The ids that are there, those among them that are not committed yet. */
  readonly ids: string[];
  contains(id: string): boolean;
  /** `stamps`: one for each picture, which differs if it changed; 0 for none. */
  add(ids: string[], embeddings: Embedding[], stamps?: ArrayLike<bigint | number>): void;
  remove(rows: number[]): void;
  /** Those that are not there are passed over. */
  removeIds(ids: string[]): void;
  /** The whole file with what was added and removed. */
  commit(): Uint8Array<ArrayBuffer>;
  /** The same without the rows that are removed, in as few blocks as it takes. Rows get other numbers. */
  compact(): Uint8Array<ArrayBuffer>;
}

export interface TokenizerSettings {
  context_length: number;
  sot: number;
  eot: number;
  pad: number;
}
export class Tokenizer {
  constructor(vocabulary: Record<string, number>, merges: string, settings: TokenizerSettings);
  ids(text: string): { ids: number[]; tokens: number; rest: string };
  encode(texts: string[]): BigInt64Array;
  readonly settings: TokenizerSettings;
}

export function upright(picture: Picture, orientation: number): Picture;
export interface Preprocess {
  size: number;
  resize: "shorter_side" | "squash";
  crop: "center" | "none";
  interpolation: "bilinear" | "bicubic";
  crop_fraction?: number | null;
}
/** RGB bytes to a tower's input, float32 [3, S, S] in [0, 1]: Pillow's pixels, to the bit. */
export function prepare(rgb: Uint8Array | Uint8ClampedArray, width: number, height: number, how: Preprocess): Float32Array;
export function resize(
  rgb: Uint8Array | Uint8ClampedArray,
  width: number,
  height: number,
  outWidth: number,
  outHeight: number,
  interpolation: "bilinear" | "bicubic",
): Uint8ClampedArray;
export function probabilities(embedding: Float32Array, labels: Float32Array[], scale: number, bias?: number): number[];
export function unit(values: ArrayLike<number>): Float32Array;
