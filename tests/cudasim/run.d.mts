export function buildSimulator(target?: 'all' | 'checks' | 'cublaslt_checks'): void;
export function buildCardPrograms(): void;
export function simulated(nvrtc?: string | null): { LD_LIBRARY_PATH: string; TSTRAIN_CUDA_PATH: string };
