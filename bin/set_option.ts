import { Option } from 'commander';

/** `--set key=value`, which may be repeated: a list of `key=value`. */
export function setOption(): Option {
  return new Option('--set <key=value>', 'override one key of the file; may be repeated')
    .argParser((value: string, values: string[]) => [...values, value])
    .default([]);
}
