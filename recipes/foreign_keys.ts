import type { Key } from './settings.js';

/** What other trainers call a key that there is. */
const OTHER_NAMES: Record<string, Key> = {
  cutoff_len: 'model_max_length',
  max_seq_length: 'model_max_length',
  max_seq_len: 'model_max_length',
  sequence_len: 'model_max_length',
  block_size: 'model_max_length',
  dataset: 'data_path',
  dataset_name: 'data_path',
  datasets: 'data_path',
  train_file: 'data_path',
  eval_dataset: 'eval_data_path',
  validation_file: 'eval_data_path',
  base_model: 'model_name_or_path',
  micro_batch_size: 'per_device_train_batch_size',
  per_gpu_train_batch_size: 'per_device_train_batch_size',
  neat_packing: 'packing',
  sample_packing: 'packing',
};

/** What is done in place of keys that other trainers have and this one has not. */
const WITHOUT: readonly (readonly [RegExp, string])[] = [
  [/^(tf32|fp16.*|torch_dtype|pure_bf16|bf16_full_eval)$/, 'precision is float32, or bf16: true'],
  [/^(report_to|logging_dir|run_name|wandb_.*)$/, 'metrics are written to metrics.jsonl in output_dir'],
  [/^(fsdp.*|deepspeed|ddp_.*|local_rank)$/, 'a run is one process on one device'],
  [
    /^(stage|finetuning_type|lora_.*|use_(lora|peft)|load_in_.*|quantization_bit)$/,
    'a run trains all weights of a model',
  ],
  [
    /^(template|chat_template|prompt_template)$/,
    "rows are put into Alpaca's prompt; rows of token ids have their own",
  ],
  [/^(optim|optim_args|optimizer)$/, 'the optimizer is AdamW'],
  [
    /^(do_train|do_eval|do_predict)$/,
    '`tstrain --config FILE` trains, and eval_strategy says when it evaluates',
  ],
  [/^(val_size|validation_split_percentage)$/, 'rows to evaluate on are a file of their own, eval_data_path'],
  [/^overwrite_output_dir$/, 'a run never overwrites the model or checkpoints in output_dir'],
  [/^resume_from_checkpoint$/, '--resume goes on from the newest checkpoint in output_dir'],
  [
    /^(load_best_model_at_end|metric_for_best_model|greater_is_better)$/,
    'the model saved is that of the last step',
  ],
  [/^(push_to_hub.*|hub_.*)$/, 'nothing is uploaded'],
  [/^(dataloader_.*|preprocessing_num_workers|dataset_num_proc)$/, 'threads says how many threads are used'],
  [/^(group_by_length|pad_to_max_length)$/, 'rows are laid end to end, without padding'],
  [
    /^(trust_remote_code|use_fast_tokenizer|flash_attn|attn_implementation|remove_unused_columns)$/,
    'it changes nothing here',
  ],
];

/** What to say of a key of another trainer's config: that it has another name here, or none and why. */
export function foreignKey(key: string): string | undefined {
  if (Object.hasOwn(OTHER_NAMES, key)) return `its name here is "${OTHER_NAMES[key]}"`;
  const instead = WITHOUT.find(([names]) => names.test(key))?.[1];
  return instead && `there is none: ${instead}`;
}
