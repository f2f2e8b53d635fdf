/**
 * The name that is most likely meant: the one whose initials the word is (lr: learning_rate), the first that holds it
 * (batch_size: per_device_train_batch_size), else the first of those with the fewest letters to insert, delete or
 * exchange (Levenshtein 1966). Undefined when more than a third of the letters would change: such a name is another
 * word. Upper case, - and _ make no difference.
 */
export function nearest(word: string, names: readonly string[]): string | undefined {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[-_ ]/g, '');
  const wanted = plain(word);
  const abbreviated = names.find((name) => name.includes('_') && initials(name) === wanted);
  if (abbreviated !== undefined) return abbreviated;
  const holding = names.find((name) => wanted.length >= 5 && plain(name).includes(wanted));
  if (holding !== undefined) return holding;
  let best = names[0];
  for (const name of names)
    if (editDistance(wanted, plain(name)) < editDistance(wanted, plain(best))) best = name;
  const letters = Math.max(wanted.length, plain(best).length);
  return 3 * editDistance(wanted, plain(best)) <= letters ? best : undefined;
}

function initials(name: string): string {
  return name
    .split('_')
    .map((part) => part[0])
    .join('');
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const above = row;
    row = [i];
    for (let j = 1; j <= b.length; j++) {
      row[j] = Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
  }
  return row[b.length];
}
