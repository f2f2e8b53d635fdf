import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
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

it('takes the device that a program names, before the first is used', async () => {
  vi.resetModules();
  const { defaultDevice, setDevice } = await import('./addon.js');
  expect(() => setDevice('moon')).toThrow(/^setDevice: moon cannot be used: the addon has .*cpu/);
  setDevice('cpu');
  expect(defaultDevice()).toBe('cpu');
  setDevice('cpu');
});

it('can be loaded twice in one thread, as bundlers and test runners do', () => {
  const twice = `
    const file = ${JSON.stringify(join(import.meta.dirname, '../../build/native/tstrain.node'))};
    const first = require(file);
    delete require.cache[file];
    const second = require(file);
    const handle = first.alloc('cpu', first.dtypes.float32.code, 4, false, 0, first.dtypes.float32.code);
    console.log(first === second, second.isLive(handle));`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', twice], { encoding: 'utf8' });
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'false true\n', stderr: '' });
});
