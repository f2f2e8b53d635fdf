/** The text fields of one Alpaca row. An absent input is the empty string. */
export interface AlpacaRow {
  instruction: string;
  input: string;
  output: string;
}

/**
 * Stanford Alpaca's prompt for a row, ending in `### Response:` without a newline: the response follows directly.
 * The form with an input is used when `input` is present and not the empty string (one space is an input).
 */
export function formatPrompt({ instruction, input }: { instruction: string; input?: string }): string {
  if (input === undefined || input === '') {
    return (
      'Below is an instruction that describes a task. ' +
      'Write a response that appropriately completes the request.\n\n' +
      `### Instruction:\n${instruction}\n\n### Response:`
    );
  }
  return (
    'Below is an instruction that describes a task, paired with an input that provides further context. ' +
    'Write a response that appropriately completes the request.\n\n' +
    `### Instruction:\n${instruction}\n\n### Input:\n${input}\n\n### Response:`
  );
}
