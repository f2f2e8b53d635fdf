export function kernelFiles(): string[];
export function committed(file: string): string | undefined;
export function toCommit(file: string): string | undefined;
export function compiled(
  file: string,
  version: string,
  architecture: string,
  options?: string[],
): { ptx: string; log: string } | undefined;
