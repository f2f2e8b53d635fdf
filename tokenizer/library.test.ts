import { expect, it } from 'vitest';
import { library } from './library.js';

it('loads the tokenizers without the addon of onnxruntime', async () => {
  expect((await library()).PreTrainedTokenizer).toBeTypeOf('function');
  const { sharedObjects } = process.report.getReport() as unknown as { sharedObjects: string[] };
  expect(sharedObjects.some((path) => path.includes('libc.so'))).toBe(true);
  expect(sharedObjects.filter((path) => path.includes('onnxruntime'))).toEqual([]);
});
