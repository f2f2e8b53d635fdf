import type { NativeTensor } from '../device/native_tensor.js';
import { cast } from '../ops/elementwise.js';
import type { GradientOf } from './linear_layer.js';
import { LinearLayer } from './linear_layer.js';
import type { Weight } from './parameters.js';

/** The hidden state of a text's last token → its score: Hugging Face's LlamaForSequenceClassification, one label. */
export class ScoreHead {
  private readonly layer: LinearLayer;

  /** `weight`: [1, C]. */
  constructor(weight: Weight) {
    this.layer = new LinearLayer(weight);
  }

  /** Float32 scores [texts] of hidden [texts, C]. */
  scores(hidden: NativeTensor): NativeTensor {
    const scores = hidden.like([hidden.shape[0], 1], 'float32');
    return this.layer.forward(hidden, { into: scores }).reshaped([hidden.shape[0]]);
  }

  /** The gradient of hidden [texts, C] from that of the scores, float32 [texts]; adds the weight's to `gradients`. */
  backward(dscores: NativeTensor, hidden: NativeTensor, gradients: GradientOf): NativeTensor {
    const dy = hidden.like([hidden.shape[0], 1]);
    cast(dy, dscores);
    this.layer.backwardWeight(dy, hidden, gradients);
    const dhidden = this.layer.backwardInput(dy);
    dy.dispose();
    return dhidden;
  }
}
