import { afterEach, expect, it, vi } from 'vitest';

afterEach(() => vi.unstubAllEnvs());

async function defaultDeviceWith(name: string): Promise<string> {
  vi.stubEnv('TSTRAIN_DEVICE', name);
  vi.resetModules();
  const { defaultDevice } = await import('./addon.js');
  return defaultDevice();
}

it('takes the device that TSTRAIN_DEVICE names, if there is one', async () => {
  expect(await defaultDeviceWith('cpu')).toBe('cpu');
  await expect(defaultDeviceWith('moon')).rejects.toThrow(
    'TSTRAIN_DEVICE=moon: no such device; the addon has cpu',
  );
  await expect(defaultDeviceWith('meta:cpu')).rejects.toThrow('no such device');
});
