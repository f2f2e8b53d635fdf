// `npm run build`: the native addon (build/native/tstrain.node), the types of its ops (engine/device/ops.d.ts), TF.js's
// gradients (build/tfjs_gradients.mjs) and the JavaScript (dist/). Only what is older than its sources is made again.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildAddon } from './addon.mjs';
import { opTypes } from './op_types.mjs';
import { makeGradients } from './tfjs_gradients.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function succeeds(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (error) console.error(`${command}: ${error.message}`);
  return status === 0;
}

/** One line per file that tsc reads here: a changed, new or deleted source changes the digest. */
function sourceDigest() {
  const { include } = JSON.parse(readFileSync(join(root, 'tsconfig.build.json'), 'utf8'));
  const hash = createHash('sha256');
  const add = (path) => {
    const { mtimeMs, size } = statSync(join(root, path));
    hash.update(`${path} ${mtimeMs} ${size}\n`);
  };
  const visit = (path) => {
    if (!existsSync(join(root, path))) return;
    if (!statSync(join(root, path)).isDirectory()) return add(path);
    for (const name of readdirSync(join(root, path)).sort()) {
      const inner = join(path, name);
      if (statSync(join(root, inner)).isDirectory()) visit(inner);
      else if (name.endsWith('.ts') && !/\.(test|cases)\.ts$/.test(name)) add(inner);
    }
  };
  for (const path of [...include, 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json']) visit(path);
  return hash.digest('hex');
}

// npm's `prepare` is the build of a package for somebody else.
if (!buildAddon({ strict: process.env.npm_lifecycle_event !== 'prepare' })) process.exit(1);

const OP_TYPES = 'engine/device/ops.d.ts';
const types = opTypes(createRequire(import.meta.url)(join(root, 'build/native/tstrain.node')));
if (!existsSync(join(root, OP_TYPES)) || readFileSync(join(root, OP_TYPES), 'utf8') !== types)
  writeFileSync(join(root, OP_TYPES), types);

await makeGradients(root);

const dist = join(root, 'dist');
const stamp = join(dist, '.sources');
const digest = sourceDigest();
if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== digest) {
  // Aside first: a run that was started from dist/ never sees half of it, and outputs of deleted sources go.
  const next = join(root, 'dist.new');
  rmSync(next, { recursive: true, force: true });
  if (!succeeds(join(root, 'node_modules/.bin/tsc'), '-p', 'tsconfig.build.json', '--outDir', next)) {
    rmSync(next, { recursive: true, force: true });
    process.exit(1);
  }
  // The compiler copies no declarations: without this one, what users of the library see of its types has a hole.
  copyFileSync(join(root, OP_TYPES), join(next, OP_TYPES));
  chmodSync(join(next, 'bin/tstrain.js'), 0o755);
  writeFileSync(join(next, '.sources'), digest);
  rmSync(dist, { recursive: true, force: true });
  renameSync(next, dist);
}

// npx makes a link of its own, but one started before the first build remembers that there was no such command;
// it then finds this one.
const link = join(root, 'node_modules/.bin/tstrain');
if (!existsSync(link)) {
  mkdirSync(dirname(link), { recursive: true });
  rmSync(link, { force: true });
  symlinkSync('../../dist/bin/tstrain.js', link);
}
