import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from '../../tests/read_safetensors.js';
import { chooseToken, draw, probabilities, type Sampling, uniform } from './sampling.js';

interface Case {
  case: number;
  vocab: number;
  settings: {
    repetition_penalty?: number;
    temperature?: number;
    top_k?: number;
    top_p?: number;
    min_p?: number;
  };
  previous_ids: number[];
  kept: number;
}

// Reference values: transformers' logits processors in float64, stored as float32 (tests/fixtures/sampling).
const fixtures = join(import.meta.dirname, '../../tests/fixtures/sampling');
const cases: Case[] = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8'));
const tensors = readSafetensors(join(fixtures, 'sampling.safetensors'));

// Stated with the fixtures: the same kept set, and ten times what float32 storage and arithmetic make of the values.
const TOLERANCE = 1e-6;

describe('probabilities', () => {
  it.each(cases)('case $case: $settings', ({ case: number, vocab, settings, previous_ids, kept }) => {
    const p = probabilities(tensors.get(`${number}.logits`)!.data, previous_ids, {
      repetitionPenalty: settings.repetition_penalty,
      temperature: settings.temperature,
      topK: settings.top_k,
      topP: settings.top_p,
      minP: settings.min_p,
    });
    const expected = new Float64Array(vocab);
    const whole = tensors.get(`${number}.probs`);
    if (whole) expected.set(whole.data);
    else
      tensors.get(`${number}.kept_ids`)!.data.forEach((id, i) => {
        expected[id] = tensors.get(`${number}.kept_probs`)!.data[i];
      });

    expect(p.filter((x) => x > 0).length).toBe(kept);
    const differences = p.map((x, id) => Math.abs(x - expected[id]));
    expect(Math.max(...differences)).toBeLessThanOrEqual(TOLERANCE);
    expect(p.every((x, id) => x > 0 === expected[id] > 0)).toBe(true);
  });

  it('keeps the lower ids where equal scores lie across the edge of top_p', () => {
    // A quarter each: the two that hold at most half go, and these are the last two.
    expect([...probabilities([1, 1, 1, 1], [], { topP: 0.5 })]).toEqual([0.5, 0.5, 0, 0]);
    expect([...probabilities([1, 1, 1, 1], [], { topP: 0 })]).toEqual([1, 0, 0, 0]);
  });
});

describe('chooseToken', () => {
  const logits = [-1, 2, 0.5, 2, -3];
  const first = { step: 0, text: 0 };

  it.each<[string, Sampling]>([
    ['by default', {}],
    ['at temperature 0', { temperature: 0, topP: 0.9, seed: 7 }],
  ])('is greedy %s, the lowest id of equal ones', (_, sampling) => {
    expect(chooseToken(logits, [], sampling, first)).toBe(1);
  });

  it('penalises repetition in greedy decoding too', () => {
    expect(chooseToken(logits, [1, 1], { repetitionPenalty: 1.5 }, first)).toBe(3);
  });

  it('draws each token as often as its probability says', () => {
    const sampling = { temperature: 0.8, topK: 4, seed: 3 };
    const p = probabilities(logits, [], sampling);
    const draws = 20_000;
    const counts = new Float64Array(logits.length);
    for (let step = 0; step < draws; step++) counts[chooseToken(logits, [], sampling, { step, text: 0 })]++;
    // Five standard deviations of a binomial count; fixed by the seed, so it passes always or never.
    for (const [id, count] of counts.entries())
      expect(Math.abs(count - draws * p[id])).toBeLessThanOrEqual(5 * Math.sqrt(draws * p[id]));
  });

  it('depends on seed, text and step alone', () => {
    const flat = new Float32Array(1000);
    const drawn = (seed: number, text = 0) =>
      [5, 0, 5, 1].map((step) => chooseToken(flat, [], { temperature: 1, seed }, { step, text }));
    const [early, zero, again, one] = drawn(1);
    expect(again).toBe(early);
    expect(new Set([early, zero, one]).size).toBe(3);
    for (const other of [drawn(2), drawn(1, 1), drawn(1, 2)]) expect(other).not.toEqual(drawn(1));
    expect(drawn(1, 2)).not.toEqual(drawn(1, 1));
    expect(drawn(2)).not.toEqual(drawn(1, 1));
  });
});

describe('draw', () => {
  it('never takes a token of probability 0, at either end', () => {
    const p = Float64Array.of(0, 0.5, 0.5, 0);
    expect(draw(p, 0)).toBe(1);
    expect(draw(p, 0.5)).toBe(2);
    expect(draw(p, 1 - 2 ** -53)).toBe(2);
  });
});

describe('uniform', () => {
  it('lies in [0, 1) for any seed, and spreads over steps and over texts', () => {
    for (const seed of [0, 1, 2 ** 31, Number.MAX_SAFE_INTEGER, -1])
      for (const at of [(i: number) => ({ step: i, text: 3 }), (i: number) => ({ step: 3, text: i })]) {
        const values = Array.from({ length: 1000 }, (_, i) => uniform(seed, at(i)));
        expect(values.every((u) => u >= 0 && u < 1)).toBe(true);
        // The mean of 1000 has a standard deviation of 0.009.
        expect(values.reduce((a, b) => a + b) / 1000).toBeCloseTo(0.5, 1);
      }
  });

  it('gives no two draws the same number', () => {
    const draws = Array.from({ length: 10_000 }, (_, i) =>
      uniform(1, { step: i % 100, text: Math.floor(i / 100) }),
    );
    expect(new Set(draws).size).toBe(draws.length);
  });
});
