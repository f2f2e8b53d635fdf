export { HELD_OUT_PER_SKILL, type HeldOutRow, type QuickstartRow, quickstartRows } from './rows.js';
export { SKILLS } from './skills.js';
export { QUICKSTART_VOCAB_SIZE, quickstartTokenizer } from './tokenizer.js';
export { writeQuickstartData } from './write.js';
