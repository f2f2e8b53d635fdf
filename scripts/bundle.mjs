// `npm run bundle`: build/tstrain-<version>-<commit>-linux-x64.tar.xz, which unpacks and runs where there is nothing but
// Linux on x86-64 with glibc 2.36 or newer (Debian 12): Node, the built JavaScript and what it imports, the addon and the
// libraries that these need. Node and the libraries are this machine's.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const ADDON = 'build/native/tstrain.node';
/** Besides JavaScript: what a run, and scripts/card.sh, read of the project. */
const FILES = [
  'configs',
  'LICENSE',
  'scripts/card.sh',
  'benchmarks/peer_torch.py',
  ...['cu', 'ptx'].map((end) => `benchmarks/card/fragments.${end}`),
];
/** What op cases and goldens read. */
const CASE_FILES = ['tests/fixtures/checkpoint/rounding.safetensors', 'tests/fixtures/llama'];
/** Of the machine that the bundle runs on: the libraries of glibc, all others are in the bundle. */
const GLIBC_LIBRARY = /^(ld-linux-x86-64|lib(c|m|dl|pthread|rt|util|resolv|mvec|anl))\.so/;
const NEWEST_GLIBC = '2.36';
const MOST_MIB = 45;

/** A fault that is said in one line. */
class Refused extends Error {}

function output(command, ...args) {
  return execFileSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 28 });
}

/** Makes the bundle's tree in `directory`, which is not there yet. */
export async function assemble(directory) {
  const put = (from, to) => {
    mkdirSync(dirname(join(directory, to)), { recursive: true });
    cpSync(from, join(directory, to), { recursive: true, dereference: true });
  };
  const writeText = (to, text) => {
    mkdirSync(dirname(join(directory, to)), { recursive: true });
    writeFileSync(join(directory, to), text);
  };

  for (const file of FILES) put(join(root, file), file);
  for (const file of CASE_FILES) put(join(root, file), join('dist', file));
  copyFileSync(join(root, 'scripts/bundle_launcher.sh'), join(directory, 'tstrain'));
  chmodSync(join(directory, 'tstrain'), 0o755);
  const { name, version, license, type, imports } = packageJson('package.json');
  const about = { name, version, commit: commit(), license, type, imports };
  writeText('package.json', `${JSON.stringify(about, null, 2)}\n`);

  const scripts = listFiles('dist').filter((file) => file.endsWith('.js'));
  const packages = new Set();
  for (const file of new Set([...scripts, ...(await importedBy(scripts))])) {
    put(join(root, file), file);
    if (file.startsWith('node_modules/')) packages.add(packageOf(file));
  }
  await addCases(directory);
  const list = [...packages].sort().map((path) => {
    put(join(root, path, 'package.json'), join(path, 'package.json'));
    for (const file of readdirSync(join(root, path)).filter((name) => /^(licen[cs]e|notice)/i.test(name)))
      put(join(root, path, file), join('LICENSES', path, file));
    const { name, version, license } = packageJson(join(path, 'package.json'));
    return `${name} ${version}: ${license}\n`;
  });
  writeText('LICENSES/node_modules/list.txt', list.join(''));
  put(join(root, 'LICENSE'), 'LICENSES/tstrain');
  put(nodeLicense(), 'LICENSES/node');

  output('make', '--no-print-directory', '-s', '-C', 'engine/native', 'card');
  const programs = readdirSync(join(root, 'benchmarks/card'))
    .filter((name) => name.endsWith('.cpp'))
    .map((name) => `build/card/${basename(name, '.cpp')}`);
  const built = [ADDON, ...programs];
  const libraries = librariesOf([process.execPath, ...built.map((file) => join(root, file))]);
  if (![...libraries.keys()].some((library) => library.startsWith('libdnnl.')))
    throw new Refused('the addon was built without oneDNN; apt-get install libdnnl-dev, then npm run build');
  for (const [library, path] of libraries) {
    put(path, `lib/${library}`);
    for (const text of licensesOf(path)) put(text, join('LICENSES', basename(dirname(text)), basename(text)));
  }
  put(process.execPath, 'bin/node');
  for (const file of built) put(join(root, file), file);

  const binaries = ['bin/node', ...built, ...[...libraries.keys()].map((library) => `lib/${library}`)];
  for (const file of binaries) output('strip', '--strip-unneeded', join(directory, file));
  const faults = binaries.flatMap((file) => glibcFaults(join(directory, file), file));
  if (faults.length > 0)
    throw new Refused(`the bundle would need more than glibc ${NEWEST_GLIBC}: ${faults.join('; ')}`);
}

/** The cases of every op, the goldens, and what runs them without vitest: a card is asked to pass them. */
async function addCases(directory) {
  const options = { absWorkingDir: root, outbase: root, platform: 'node', format: 'esm', logLevel: 'error' };
  const entryPoints = [
    'tests/run_op_cases.ts',
    'tests/run_goldens.ts',
    ...listFiles('engine/ops').filter((file) => file.endsWith('.cases.ts')),
  ];
  const all = { ...options, entryPoints, bundle: true, packages: 'external', write: false, metafile: true };
  const { metafile } = await build({ ...all, outdir: 'unused' });
  // All other files that these import are in dist/ already.
  const own = Object.keys(metafile.inputs).filter(
    (file) => !existsSync(join(root, 'dist', file.replace(/ts$/, 'js'))),
  );
  await build({ ...options, entryPoints: own, outdir: join(directory, 'dist') });
  const vitest = join(directory, 'node_modules/vitest');
  mkdirSync(vitest);
  writeFileSync(join(vitest, 'package.json'), '{ "type": "module", "exports": "./index.js" }\n');
  writeFileSync(join(vitest, 'index.js'), "export * from '../../dist/tests/case_runner.js';\n");
}

/** What `file` needs of a glibc newer than `newest`, or private to one glibc; called `name` in what is said. */
export function glibcFaults(file, name, newest = NEWEST_GLIBC) {
  const text = output('readelf', '--wide', '--version-info', '--dyn-syms', file);
  const versions = new Set([...text.matchAll(/Name: (GLIBC_\S+)/g)].map(([, version]) => version));
  const tooNew = (version) => {
    // The one name that is no number: relative relocations in short form, which came with 2.36.
    const number = version === 'GLIBC_ABI_DT_RELR' ? '2.36' : version.slice('GLIBC_'.length);
    if (!/^[\d.]+$/.test(number)) return true;
    return number.localeCompare(newest, 'en', { numeric: true }) > 0;
  };
  return [...versions].filter(tooNew).map((version) => {
    const symbol = text.split('\n').find((line) => line.includes(' UND ') && line.includes(`@${version} `));
    return `${name} needs ${version}${symbol === undefined ? '' : ` (${/(\S+)@/.exec(symbol)[1]})`}`;
  });
}

/** Paths of the files under a directory of the project. */
function listFiles(directory) {
  const names = readdirSync(join(root, directory), { recursive: true });
  return names
    .map((name) => join(directory, name))
    .filter((path) => statSync(join(root, path)).isFile())
    .sort();
}

/** The files that scripts of the project import, directly or not, by Node's own rules. */
async function importedBy(scripts) {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: scripts,
    outdir: 'unused',
    bundle: true,
    splitting: true,
    write: false,
    metafile: true,
    platform: 'node',
    format: 'esm',
    // esbuild alone would also take what packages offer to bundlers.
    conditions: ['node'],
    mainFields: ['main'],
    external: Object.keys(packageJson('package.json').peerDependencies),
    logLevel: 'error',
  });
  return Object.keys(metafile.inputs);
}

/** The directory of the package that a file in node_modules belongs to. */
function packageOf(file) {
  const [, path] = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file);
  return path;
}

function packageJson(path) {
  return JSON.parse(readFileSync(join(root, path), 'utf8'));
}

function commit() {
  const git = (...args) => spawnSync('git', args, { cwd: root, encoding: 'utf8' });
  const head = git('rev-parse', '--short=9', 'HEAD');
  if (head.status !== 0)
    throw new Refused('the name of a bundle has the commit in it, and this is no git checkout');
  return head.stdout.trim() + (git('status', '--porcelain').stdout === '' ? '' : '-dirty');
}

/** Names and paths of the libraries that the files need, directly or not, and that are not glibc's. */
function librariesOf(files) {
  const found = new Map();
  for (const file of files) {
    for (const [, name, path] of output('ldd', file).matchAll(/^\s*(\S+) => (.+?)(?: \(0x\w+\))?$/gm)) {
      if (path === 'not found') throw new Refused(`${file} needs ${name}, which is not on this machine`);
      if (!GLIBC_LIBRARY.test(name)) found.set(name, path);
    }
  }
  return new Map([...found].sort());
}

/** Beside Node where it was unpacked, or where a package has put it. */
function nodeLicense() {
  const beside = join(dirname(dirname(realpathSync(process.execPath))), 'LICENSE');
  const found = [beside, '/usr/share/doc/nodejs/LICENSE', '/usr/share/doc/nodejs/copyright'].find(existsSync);
  if (found === undefined)
    throw new Refused(`the licence of ${process.execPath} is missing: it should be ${beside}`);
  return found;
}

/** The terms of the Debian package that a library is of, and the texts they refer to. */
function licensesOf(library) {
  // A package may know its files by the name from before /lib became a link to /usr/lib.
  const owners = [library, `/usr${library}`, realpathSync(library)].map(
    (path) => spawnSync('dpkg', ['--search', path], { encoding: 'utf8' }).stdout?.split(':')[0],
  );
  const terms = join('/usr/share/doc', owners.find(Boolean) ?? '', 'copyright');
  if (!existsSync(terms))
    throw new Refused(`the licence of ${library} is missing: it is of no Debian package`);
  const referred = readFileSync(terms, 'utf8').matchAll(
    /\/usr\/share\/common-licenses\/[A-Z][\w-]*(?:\.\d)?/g,
  );
  return [terms, ...new Set([...referred].map(([path]) => path).filter(existsSync))];
}

async function main() {
  const { version } = packageJson('package.json');
  const name = `tstrain-${version}-${commit()}-linux-x64`;
  const archive = join(root, 'build', `${name}.tar.xz`);
  const scratch = mkdtempSync(join(root, 'build/bundle-'));
  try {
    await assemble(join(scratch, name));
    // The same files give the same archive: names sorted, the commit's time, nobody's names, and a number of threads by
    // which xz always cuts its blocks alike.
    const date = output('git', 'log', '-1', '--format=%cI').trim();
    const alike = [
      '--sort=name',
      `--mtime=${date}`,
      '--owner=0',
      '--group=0',
      '--numeric-owner',
      '--mode=u=rwX,go=rX',
    ];
    const packed = join(scratch, 'packed');
    output('tar', ...alike, '-I', 'xz --threads=2', '-C', scratch, '-cf', packed, name);
    const mib = statSync(packed).size / 2 ** 20;
    if (mib > MOST_MIB) throw new Refused(`the archive has ${mib.toFixed(1)} MiB, more than ${MOST_MIB}`);
    renameSync(packed, archive);
    console.log(`${archive}: ${mib.toFixed(1)} MiB`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const [, script] = process.argv;
if (script !== undefined && realpathSync(script) === fileURLToPath(import.meta.url))
  await main().catch((error) => {
    if (!(error instanceof Refused)) throw error;
    console.error(`bundle: ${error.message}`);
    process.exitCode = 1;
  });
