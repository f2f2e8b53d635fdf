/** The name with the fewest letters to insert, delete or exchange (Levenshtein 1966); the first of several. */
export function nearest(word: string, names: readonly string[]): string {
  let best = names[0];
  for (const name of names) if (editDistance(word, name) < editDistance(word, best)) best = name;
  return best;
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
