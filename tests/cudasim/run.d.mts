export function buildSimulator(target?: 'all' | 'checks'): void;
export function simulated(nvrtc?: string | null): { LD_LIBRARY_PATH: string; TSTRAIN_CUDA_PATH: string };
