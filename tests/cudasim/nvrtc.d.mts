export const releases: Record<string, string>;
export function installedNvrtc(version: string): string | undefined;
export function installNvrtc(version: string): string | undefined;
