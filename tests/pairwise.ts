import type { TrainingBatch } from '../batch.js';
import type { DeviceName } from '../engine/device/addon.js';
import { NativeTensor, release } from '../engine/device/native_tensor.js';
import type { LlamaConfig } from '../engine/model/config.js';
import { disposeBatch, toDevice } from '../engine/model/device_batch.js';
import { type Gradients, Parameters, type Precision } from '../engine/model/parameters.js';
import { RopeTables } from '../engine/model/rope_tables.js';
import { ScoreHead } from '../engine/model/score_head.js';
import { SCORE, scoreSpecs } from '../engine/model/specs.js';
import { Trunk } from '../engine/model/trunk.js';
import { crossEntropy } from '../engine/ops/cross_entropy.js';
import { fill } from '../engine/ops/elementwise.js';
import { sumInto } from '../engine/ops/reduce.js';
import type { Objective } from '../engine/train/objective.js';

/** A LLaMA with a score for a text in place of its language-model head. */
export class RewardModel {
  readonly parameters: Parameters;
  readonly trunk: Trunk;
  readonly head: ScoreHead;
  readonly ropeTables: RopeTables;

  constructor(config: LlamaConfig, device: DeviceName, precision: Precision) {
    this.parameters = new Parameters(config, device, precision, { specs: scoreSpecs(config) });
    this.trunk = new Trunk(this.parameters);
    this.head = new ScoreHead(this.parameters.weight(SCORE));
    this.ropeTables = new RopeTables(config, device);
  }

  dispose(): void {
    this.ropeTables.dispose();
    this.parameters.dispose();
  }
}

/**
 * The pairwise loss of a reward model, −log σ(score of the first − score of the second), over batches whose documents
 * are pairs: which is the cross entropy of the two scores as logits, the first being the target.
 */
export function pairwise(model: RewardModel): Objective {
  const { trunk, head, ropeTables, parameters } = model;
  const pass = (batch: TrainingBatch, weight: number, gradients: Gradients, sums: NativeTensor) => {
    const { device } = parameters;
    const onDevice = toDevice(batch, parameters, ropeTables);
    const texts = batch.documentOffsets.length - 1;
    const lastRows = NativeTensor.from(
      device,
      batch.documentOffsets.slice(1).map((end) => end - 1),
    );
    const targets = NativeTensor.from(device, new Int32Array(texts / 2));
    const { hidden, saved } = trunk.forward(onDevice, 'all', lastRows);
    const scores = head.scores(hidden);
    const logits = scores.reshaped([texts / 2, 2]);
    const weights = logits.like([texts / 2]);
    fill(weights, weight);
    const [lossSum, scoreSum] = [0, 1].map((i) => sums.view([1], i));
    sumInto(scoreSum, scores);
    const loss = weights.like();
    crossEntropy(loss, logits, targets, { weights, dlogits: logits });
    sumInto(lossSum, loss);
    trunk.backward(head.backward(scores, hidden, gradients), saved, onDevice, gradients);
    release(lastRows, targets, hidden, scores, weights, loss, lossSum, scoreSum);
    disposeBatch(onDevice);
  };
  return {
    name: 'pairwise',
    measures: ['score'],
    terms: ({ documentOffsets }) => (documentOffsets.length - 1) / 2,
    forwardBackward: pass,
    evaluate(batch) {
      const texts = batch.documentOffsets.length - 1;
      const scores = scoresOf(model, batch);
      const pairs = Array.from({ length: texts / 2 }, (_, i) => [scores[2 * i], scores[2 * i + 1]]);
      return [pairs.map(([a, b]) => Math.log1p(Math.exp(b - a))), pairs.map(([a, b]) => a + b)];
    },
  };
}

/** The score of each document. */
export function scoresOf(
  { trunk, head, ropeTables, parameters }: RewardModel,
  batch: TrainingBatch,
): Float32Array {
  const onDevice = toDevice(batch, parameters, ropeTables);
  const lastRows = NativeTensor.from(
    parameters.device,
    batch.documentOffsets.slice(1).map((end) => end - 1),
  );
  const hidden = trunk.hiddenStates(onDevice, lastRows);
  const scores = head.scores(hidden);
  const values = scores.floats();
  release(lastRows, hidden, scores);
  disposeBatch(onDevice);
  return values;
}
