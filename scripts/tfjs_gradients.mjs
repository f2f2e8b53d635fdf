import { existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

/**
 * Makes build/tfjs_gradients.mjs, which gives TF.js's ops their gradients and makes them methods of tensors, and the
 * declaration of these methods. In tfjs-core both are modules for bundlers: Node finds no file by their imports. The
 * bundle has code of tfjs-core in it, but no state: that lies in one global place, which the package itself makes first.
 */
export async function makeGradients(root) {
  const file = join(root, 'build/tfjs_gradients.mjs');
  const isNewer = (path) => statSync(join(root, path)).mtimeMs > statSync(file).mtimeMs;
  if (existsSync(file) && !['scripts/tfjs_gradients.mjs', 'package-lock.json'].some(isNewer)) return;
  const core = '@tensorflow/tfjs-core';
  const methods = `${core}/dist/public/chained_ops/register_all_chained_ops.js`;
  await build({
    stdin: {
      contents: `
        import '${core}';
        import './node_modules/${core}/dist/register_all_gradients.js';
        import './node_modules/${methods}';`,
      resolveDir: root,
    },
    outfile: file,
    bundle: true,
    external: [core],
    minify: true,
    platform: 'node',
    format: 'esm',
    mainFields: ['module', 'main'],
    logLevel: 'error',
  });
  writeFileSync(file.replace('.mjs', '.d.mts'), `import '${methods}';\n`);
}
