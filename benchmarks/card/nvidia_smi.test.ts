import { expect, it } from 'vitest';
import { clockLine, describeClocks } from './nvidia_smi.js';

// Lines as nvidia-smi prints them by --format=csv,noheader,nounits.
const IDLE = clockLine(0.2, '345, 2619, 72.31, 31, 0, 4, 0x0000000000000001');
const AT_WORK = clockLine(1.2, '1980, 2619, 512.90, 55, 100, 4096, 0x0000000000000000');
const CAPPED = clockLine(2.2, '1605, 2619, 699.60, 63, 100, 4096, 0x0000000000000024');

it('reads a line', () => {
  expect(CAPPED).toEqual({
    at: 2.2,
    'clocks.sm': 1605,
    'clocks.mem': 2619,
    'power.draw': 699.6,
    'temperature.gpu': 63,
    'utilization.gpu': 100,
    'memory.used': 4096,
    reasons: '0x0000000000000024',
  });
});

it('says how fast the card ran while it worked, and what slowed it down', () => {
  expect(describeClocks([IDLE])).toBe('the card was never seen at work');
  expect(describeClocks([IDLE, AT_WORK])).toBe(
    'SM 1980 to 1980 MHz at work, at most 513 W; slowed down: by nothing',
  );
  expect(describeClocks([IDLE, AT_WORK, CAPPED])).toBe(
    'SM 1605 to 1980 MHz at work, at most 700 W; slowed down: power cap, software thermal',
  );
});
