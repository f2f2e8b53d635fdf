import type { DeviceName } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { cast, fill, fillNormal } from '../ops/elementwise.js';
import type { LlamaConfig } from './config.js';
import { type Layout, llamaLayout } from './layout.js';

/** `bf16`: bfloat16 weights, activations and GEMMs; master weights, gradients, moments and statistics stay float32. */
export type Precision = 'fp32' | 'bf16';

/** The weights of one block, in the order of use; views of a flat buffer. */
export interface BlockWeights {
  inputNorm: NativeTensor;
  qkv: NativeTensor;
  o: NativeTensor;
  postAttentionNorm: NativeTensor;
  gateUp: NativeTensor;
  down: NativeTensor;
}

/** The weights of a model (or their gradients), as the forward and backward passes take them. */
export interface LlamaWeights {
  embedding: NativeTensor;
  blocks: BlockWeights[];
  norm: NativeTensor;
  /** The embedding itself in a tied model. */
  head: NativeTensor;
}

/** The parameters of a LLaMA model: flat float32 masters, and the copy that arithmetic uses (itself in fp32). */
export class Parameters {
  readonly layout: Layout;
  readonly master: NativeTensor;
  /** bfloat16 copy of the masters; undefined in fp32. */
  readonly half: NativeTensor | undefined;
  readonly weights: LlamaWeights;

  constructor(
    readonly config: LlamaConfig,
    readonly device: DeviceName,
    readonly precision: Precision,
  ) {
    this.layout = llamaLayout(config);
    this.master = zeros(device, this.layout.size);
    this.half =
      precision === 'bf16' ? NativeTensor.onHeap(device, 'bfloat16', [this.layout.size]) : undefined;
    this.weights = viewsOf(this.half ?? this.master, this.layout, config);
  }

  /** The master of one parameter, a view to be disposed by the caller. */
  tensor(name: string): NativeTensor {
    const entry = this.layout.entries.find((e) => e.name === name);
    if (!entry) throw new Error(`the model has no parameter ${name}`);
    return this.master.view(entry.shape, entry.offset);
  }

  get entries(): Layout['entries'] {
    return this.layout.entries;
  }

  /** Brings the bfloat16 copy up to date after the masters were written other than by the optimizer. */
  mastersChanged(): void {
    if (this.half) cast(this.half, this.master);
  }

  /** Hugging Face's initialisation: N(0, initializer_range²) for matrices, 1 for norms; a function of `seed`. */
  initialize(seed: number): void {
    this.layout.entries.forEach((entry, stream) => {
      const tensor = this.tensor(entry.name);
      if (entry.shape.length === 1) fill(tensor, 1);
      else fillNormal(tensor, { seed, stream, std: this.config.initializerRange });
      tensor.dispose();
    });
    this.mastersChanged();
  }

  dispose(): void {
    disposeViews(this.weights, this.config.tieWordEmbeddings);
    this.master.dispose();
    this.half?.dispose();
  }
}

/** Gradients of all parameters, flat float32, with the views that backward adds to. */
export class Gradients {
  readonly flat: NativeTensor;
  readonly weights: LlamaWeights;

  constructor(
    readonly layout: Layout,
    private readonly config: LlamaConfig,
    device: DeviceName,
  ) {
    this.flat = zeros(device, layout.size);
    this.weights = viewsOf(this.flat, layout, config);
  }

  zero(): void {
    fill(this.flat, 0);
  }

  dispose(): void {
    disposeViews(this.weights, this.config.tieWordEmbeddings);
    this.flat.dispose();
  }
}

/** A flat float32 heap tensor of zeros. The gaps that alignment leaves must be 0 too: norms are summed over them. */
export function zeros(device: DeviceName, size: number): NativeTensor {
  const t = NativeTensor.onHeap(device, 'float32', [size]);
  fill(t, 0);
  return t;
}

function viewsOf(flat: NativeTensor, layout: Layout, config: LlamaConfig): LlamaWeights {
  const byName = new Map(layout.entries.map((e) => [e.name, e]));
  // Adjacent parameters seen as one matrix: their rows follow each other.
  const view = (...names: string[]) => {
    const entries = names.map((name) => byName.get(name)!);
    const rows = entries.reduce((sum, e) => sum + e.shape[0], 0);
    return flat.view([rows, ...entries[0].shape.slice(1)], entries[0].offset);
  };
  const embedding = view('model.embed_tokens.weight');
  return {
    embedding,
    blocks: Array.from({ length: config.numHiddenLayers }, (_, i) => {
      const of = (part: string) => `model.layers.${i}.${part}.weight`;
      return {
        inputNorm: view(of('input_layernorm')),
        qkv: view(of('self_attn.q_proj'), of('self_attn.k_proj'), of('self_attn.v_proj')),
        o: view(of('self_attn.o_proj')),
        postAttentionNorm: view(of('post_attention_layernorm')),
        gateUp: view(of('mlp.gate_proj'), of('mlp.up_proj')),
        down: view(of('mlp.down_proj')),
      };
    }),
    norm: view('model.norm.weight'),
    head: config.tieWordEmbeddings ? embedding : view('lm_head.weight'),
  };
}

function disposeViews(weights: LlamaWeights, tied: boolean): void {
  for (const block of weights.blocks) for (const t of Object.values(block) as NativeTensor[]) t.dispose();
  weights.embedding.dispose();
  weights.norm.dispose();
  if (!tied) weights.head.dispose();
}
