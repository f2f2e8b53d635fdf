import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/**
 * What a disk may hold after the power went, from what a process did (a log of shim.cpp): all that was synced, and of
 * the rest what a file system may have put there on its own. That is, in the order they were done, any number of the
 * names made, moved and removed, be it by one journal or each directory by itself; and of a file any part of what was
 * written to it since it was last synced: nothing (a file that has its name but is empty), all, a torn beginning, or its
 * size alone (zeros). A rename is done whole or not at all. A name is not on the disk because its file is, nor the
 * other way round.
 */

type Change = { at: number; data: Buffer } | { size: number };

class FileNode {
  durable: Buffer = Buffer.alloc(0);
  live: Buffer = Buffer.alloc(0);
  pending: Change[] = [];

  change(change: Change): void {
    this.live = changed(this.live, change);
    this.pending.push(change);
  }

  sync(): void {
    this.durable = this.live;
    this.pending = [];
  }

  afterLoss(random: () => number): Buffer {
    const kept = Math.floor(random() * (this.pending.length + 1));
    const how = random();
    if (how < 0.25) return this.durable;
    if (how < 0.5) return this.live;
    if (how < 0.75) {
      const zeros = Buffer.alloc(this.live.length);
      this.durable.copy(zeros);
      return zeros;
    }
    let content = this.pending.slice(0, kept).reduce(changed, this.durable);
    const torn = this.pending[kept];
    if (torn && 'data' in torn)
      content = changed(content, {
        ...torn,
        data: torn.data.subarray(0, Math.floor(random() * torn.data.length)),
      });
    return content;
  }
}

class DirectoryNode {
  durable = new Map<string, Node>();
  live = new Map<string, Node>();
}

type Node = FileNode | DirectoryNode;

/** A name that was given to a node, or taken away; `from` is where it had been. */
interface NameChange {
  directory: DirectoryNode;
  name: string;
  node: Node | undefined;
  from?: { directory: DirectoryNode; name: string };
}

function changed(content: Buffer, change: Change): Buffer {
  const size = 'size' in change ? change.size : Math.max(content.length, change.at + change.data.length);
  const result = Buffer.alloc(size);
  content.copy(result);
  if ('data' in change) change.data.copy(result, change.at);
  return result;
}

/** The disk while the calls of a log are done. What was there before is on it. */
export class SimulatedDisk {
  private readonly root: DirectoryNode;
  private names: NameChange[] = [];
  private readonly open = new Map<string, { node: Node; position: number; append: boolean }>();
  /** What the process has said so far. */
  said = '';

  constructor(directory: string) {
    this.root = read(directory);
  }

  do([call, ...args]: readonly string[]): void {
    const [first, second, third] = args;
    if (call === 'mkdir') this.name({ ...this.at(first), node: new DirectoryNode() });
    else if (call === 'unlink' || call === 'rmdir') this.name({ ...this.at(first), node: undefined });
    else if (call === 'link') this.name({ ...this.at(second), node: this.find(first) });
    else if (call === 'rename')
      this.name({ ...this.at(second), node: this.find(first), from: this.at(first) });
    else if (call === 'open') this.openFile(first, second, third);
    else if (call === 'write') this.write(first, Number(second), Buffer.from(third, 'hex'));
    else if (call === 'ftruncate') (this.open.get(first)!.node as FileNode).change({ size: Number(second) });
    else if (call === 'fsync') this.sync(first);
    else if (call === 'say') this.said += Buffer.from(first, 'hex').toString();
    else throw new Error(`the log has a call ${call}`);
  }

  /** Writes into an empty directory what a loss of power now may leave. */
  lose(random: () => number, directory: string): void {
    const kept = new Map<DirectoryNode, number>();
    const oneJournal = random() < 0.5;
    const inOrder = Math.floor(random() * (this.names.length + 1));
    const chosen = this.names.filter((change, i) => {
      if (oneJournal) return i < inOrder;
      const { directory: of } = change;
      if (!kept.has(of)) {
        const all = this.names.filter((other) => other.directory === of).length;
        kept.set(of, Math.floor(random() * (all + 1)));
      }
      const left = kept.get(of)!;
      kept.set(of, left - 1);
      return left > 0;
    });
    const names = new Map<DirectoryNode, Map<string, Node>>();
    const namesOf = (of: DirectoryNode) => {
      const known = names.get(of) ?? new Map(of.durable);
      names.set(of, known);
      return known;
    };
    for (const change of chosen) give(change, namesOf);
    const write = (of: DirectoryNode, path: string) => {
      for (const [name, node] of namesOf(of)) {
        const target = join(path, name);
        if (node instanceof FileNode) writeFileSync(target, node.afterLoss(random));
        else {
          mkdirSync(target);
          write(node, target);
        }
      }
    };
    write(this.root, directory);
  }

  private openFile(fd: string, path: string, flags: string): void {
    let node = path === '.' ? this.root : this.at(path).directory.live.get(this.at(path).name);
    if (node === undefined) {
      if (!flags.includes('c')) throw new Error(`opened, but not there: ${path}`);
      node = new FileNode();
      this.name({ ...this.at(path), node });
    } else if (flags.includes('t') && node instanceof FileNode && node.live.length > 0) {
      node.change({ size: 0 });
    }
    this.open.set(fd, { node, position: 0, append: flags.includes('a') });
  }

  /** `offset` < 0: where the file stands. */
  private write(fd: string, offset: number, data: Buffer): void {
    const file = this.open.get(fd)!;
    const node = file.node as FileNode;
    const at = offset >= 0 ? offset : file.append ? node.live.length : file.position;
    node.change({ at, data });
    if (offset < 0) file.position = at + data.length;
  }

  private sync(fd: string): void {
    const { node } = this.open.get(fd)!;
    if (node instanceof FileNode) node.sync();
    else this.syncDirectory(node);
  }

  private name(change: NameChange): void {
    give(change, ({ live }) => live);
    this.names.push(change);
  }

  /** The names of a directory; and what must have been before: a rename into it takes a name away elsewhere. */
  private syncDirectory(directory: DirectoryNode): void {
    const touches = (change: NameChange) =>
      change.directory === directory || change.from?.directory === directory;
    const also = new Set(this.names.filter(touches).map((change) => change.directory));
    const last = this.names.findLastIndex(touches);
    const isSynced = (change: NameChange, i: number) =>
      touches(change) || (i < last && also.has(change.directory));
    for (const [i, change] of this.names.entries())
      if (isSynced(change, i)) give(change, ({ durable }) => durable);
    this.names = this.names.filter((change, i) => !isSynced(change, i));
  }

  private at(path: string): { directory: DirectoryNode; name: string } {
    const parent = dirname(path);
    return {
      directory: parent === '.' ? this.root : (this.find(parent) as DirectoryNode),
      name: basename(path),
    };
  }

  private find(path: string): Node {
    const { directory, name } = this.at(path);
    const node = directory.live.get(name);
    if (node === undefined) throw new Error(`not there: ${path}`);
    return node;
  }
}

function give(
  { directory, name, node, from }: NameChange,
  namesOf: (of: DirectoryNode) => Map<string, Node>,
): void {
  if (from) namesOf(from.directory).delete(from.name);
  if (node === undefined) namesOf(directory).delete(name);
  else namesOf(directory).set(name, node);
}

function read(path: string): DirectoryNode {
  const directory = new DirectoryNode();
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    let node: Node;
    if (entry.isDirectory()) node = read(join(path, entry.name));
    else {
      node = new FileNode();
      node.durable = node.live = readFileSync(join(path, entry.name));
    }
    directory.durable.set(entry.name, node);
    directory.live.set(entry.name, node);
  }
  return directory;
}
