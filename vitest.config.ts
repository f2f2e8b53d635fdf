import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: [
      '*.test.ts',
      '{bin,recipes,data,tokenizer,quickstart,engine,benchmarks,tests,scripts}/**/*.test.ts',
    ],
    // The addon works in one thread of a process.
    pool: 'forks',
    // Kernels run OpenMP threads of their own: two test files at a time already fill two cores.
    maxWorkers: 2,
    testTimeout: 60_000,
  },
});
