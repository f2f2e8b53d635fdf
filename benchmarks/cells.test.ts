import { describe, expect, it } from 'vitest';
import { UserError } from '../errors.js';
import { ALL_CELLS, barOf, cellName, parseCells } from './cells.js';

const names = (text: string) => parseCells(text).map(cellName);

describe('parseCells', () => {
  it('reads cells in the order they are named', () => {
    expect(names('110m/bf16/alpaca, 15m/fp32/fixed')).toEqual(['110m/bf16/alpaca', '15m/fp32/fixed']);
  });

  it('takes * for every value of a place, and each cell once', () => {
    expect(names('15m/*/fixed,15m/fp32/*')).toEqual(['15m/fp32/fixed', '15m/bf16/fixed', '15m/fp32/alpaca']);
    expect(parseCells('*/*/*')).toEqual(ALL_CELLS);
    expect(ALL_CELLS).toHaveLength(12);
  });

  it('names the part that is unknown', () => {
    expect(() => parseCells('15m/fp32')).toThrow(
      new UserError('--cells: expected shape/precision/workload, got "15m/fp32"'),
    );
    expect(() => parseCells('15m/fp16/fixed')).toThrow('"fp16" in "15m/fp16/fixed" is none of fp32, bf16, *');
    expect(() => parseCells('7b/fp32/fixed')).toThrow(
      '"7b" in "7b/fp32/fixed" is none of 260k, 15m, 110m, *',
    );
    expect(() => parseCells('15m/fp32/toString')).toThrow('is none of fixed, alpaca, *');
  });
});

it('asks for the better of both peers on random ids, and for a multiple of eager on real rows', () => {
  const bar = (text: string) => barOf(parseCells(text)[0]);
  expect(bar('110m/fp32/fixed')).toEqual({ against: 'better', ratio: 1 });
  expect(bar('15m/fp32/alpaca')).toEqual({ against: 'eager', ratio: 2.5 });
  expect(bar('110m/bf16/alpaca')).toEqual({ against: 'eager', ratio: 2.5 });
  expect(bar('110m/fp32/alpaca')).toEqual({ against: 'eager', ratio: 1.9 });
});
