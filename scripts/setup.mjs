// What `npm start` and `npm test` do first: installs what is missing, says so, and builds. It runs before
// node_modules exists, so it uses Node alone. TSTRAIN_NO_INSTALL=1: no system package is installed.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { missingTools } from './addon.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function say(text) {
  console.log(`setup: ${text}`);
}

function stop(text) {
  console.error(`setup: ${text}`);
  process.exit(1);
}

function succeeds(command, ...args) {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

function checkPlatform() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19))
    stop(`Node 20.19 or newer is needed; this is ${process.versions.node}`);
  if (process.platform !== 'linux' || process.arch !== 'x64')
    stop(`tstrain runs on Linux x86-64; this is ${process.platform} ${process.arch}`);
}

/** The words that make apt-get run with the right to install, or undefined. */
function installer() {
  if (process.env.TSTRAIN_NO_INSTALL === '1' || !succeeds('apt-get', '--version')) return undefined;
  const env = ['env', 'DEBIAN_FRONTEND=noninteractive'];
  if (process.getuid() === 0) return env;
  return succeeds('sudo', '-n', 'true') ? ['sudo', '-n', ...env] : undefined;
}

/** Whether the packages are installed now; the output of apt-get is shown only when it fails. */
function install(words, packages) {
  say(`installing ${packages.join(', ')} with apt-get`);
  const aptGet = ['apt-get', '-y', '-o', 'DPkg::Lock::Timeout=120', '-o', 'Acquire::Retries=2'];
  for (const step of [['update'], ['install', '--no-install-recommends', ...packages]]) {
    const [command, ...args] = [...words, ...aptGet, ...step];
    const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    if (status === 0) continue;
    const last = `${stdout}${stderr}`.trim().split('\n').slice(-3);
    say(`apt-get ${step[0]} failed:\n${last.map((text) => `  ${text}`).join('\n')}`);
    return false;
  }
  return true;
}

function installCompiler() {
  const missing = missingTools();
  if (missing.length === 0) return;
  const words = installer();
  if (words === undefined || !install(words, missing))
    stop(`the native addon needs ${missing.join(' and ')}: sudo apt-get install ${missing.join(' ')}`);
}

function installOneDnn() {
  const header = '/usr/include/oneapi/dnnl/dnnl.hpp';
  if (existsSync(header)) return;
  // A failed try is not repeated at every start: it can take as long as the network's timeouts.
  const failed = join(root, 'build/onednn-install-failed');
  const words = existsSync(failed) ? undefined : installer();
  if (words !== undefined) {
    if (install(words, ['libdnnl-dev']) && existsSync(header)) return;
    mkdirSync(dirname(failed), { recursive: true });
    writeFileSync(failed, 'Delete this file to have the next setup try again.\n');
  }
  say(
    'oneDNN is missing: building with the built-in matrix product; results agree up to rounding, but it is ' +
      'slower and uses no bf16 instructions (to have oneDNN: sudo apt-get install libdnnl-dev)',
  );
}

/** Whether node_modules holds what package-lock.json says; packages of other platforms may be left out. */
function dependenciesInstalled() {
  const installed = join(root, 'node_modules/.package-lock.json');
  if (!existsSync(installed)) return false;
  const packages = (file) => JSON.parse(readFileSync(file, 'utf8')).packages;
  const found = packages(installed);
  return Object.entries(packages(join(root, 'package-lock.json'))).every(
    ([path, { version, integrity, optional }]) =>
      path === '' ||
      (found[path] ? found[path].version === version && found[path].integrity === integrity : optional),
  );
}

function installDependencies() {
  if (dependenciesInstalled()) return;
  say('installing the npm packages of package-lock.json (npm ci)');
  // Development packages hold the compiler, so NODE_ENV=production must not leave them out. What the package's own
  // scripts would build comes next, and no other package needs its scripts.
  const npm = ['ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  if (spawnSync('npm', npm, { cwd: root, stdio: 'inherit' }).status !== 0) stop('npm ci failed');
}

function build() {
  if (!existsSync(join(root, 'build/native/tstrain.node')))
    say('building (the first time takes a minute or two)');
  const { status } = spawnSync(process.execPath, [join(root, 'scripts/build.mjs')], { stdio: 'inherit' });
  if (status !== 0) stop('the build failed');
}

checkPlatform();
installCompiler();
installOneDnn();
installDependencies();
build();
