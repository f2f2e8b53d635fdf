import type { Random } from './random.js';

const list = (text: string): readonly string[] => text.trim().split(/\s+/);

/** Words of 3 to 6 letters that occur in training rows. */
export const TRAINING_WORDS = list(`
  apple arm bag ball banana bath bean bear bed bee bell belt bird boat bone book bottle bowl box branch
  bread brick bridge brush bucket bus butter button cabin cake camel candle carpet carrot castle cat chain
  chair cheese cherry church circle city clock cloud coat coffee coin comb cookie copper corn cotton cow
  crab cup desk dinner dog doll donkey door dragon drawer dress drum duck eagle ear egg elbow engine fence
  field finger fish flag flower fork fox frog fruit garden gate ghost gift goat gold goose grape grass
  guitar hammer hand harbor hat heart hen hill honey horse hotel house ice island jacket jar jelly jungle
  kettle key king kite knee knife ladder lake lamp leaf leg lemon letter lion lizard lunch magnet map
  market mask meadow melon milk mirror money monkey moon mouse mouth mud museum needle nest night nose nut
  oak ocean onion orange oven owl page paint palace paper parrot peach pear pen pencil pepper piano pig
  pillow pin pipe planet plate pocket pond potato puppy queen rabbit radio rain ribbon rice ring river road
  robot rocket roof room root rope rose sail salad salt sand saw school sea seed sheep ship shirt shoe shop
  silver sister skirt sky snake snow soap sock soup spider spoon spring square stairs star stone street
  sugar sun table tail tea tent thumb ticket tiger toe tomato tooth towel tower town toy train tree truck
  turtle uncle valley vase violin wagon wall watch water wave wheel wind window wing wolf wood wool worm
  wrist yard yellow zebra
`);

/** Words of 3 to 6 letters that no training row contains; the held-out part uses only these. */
export const HELD_OUT_WORDS = list(`
  actor anchor animal autumn bacon badge bakery barn basket beach beard berry board breeze bubble cactus
  camera canal cannon cave cellar circus clay cliff clover coast collar coral corner cousin cradle cream
  crown daisy dance desert dream dust farmer ferry fiddle flame flute forest friend galaxy garlic
  ginger glove grain hazel helmet herb hobby hook hunter ink insect ivory jewel judge jug kernel kitten
  lawn lilac locket maple marble meal mitten motor napkin nephew novel nurse oyster paddle panda parade
  parcel pebble petal pigeon pilot pine plum poem pony prince puzzle quilt raven saddle sailor salmon
  sandal scarf shadow shell shovel sofa sponge stable statue storm stove summer swan syrup temple tulip
  tunnel velvet walnut whale winter wizard yogurt zipper
`);

/** Pairs of opposites; either side asks for the other, so no word stands twice. */
export const OPPOSITES: ReadonlyArray<readonly [string, string]> = list(`
  hot-cold big-small up-down day-night left-right open-closed fast-slow high-low wet-dry light-dark rich-poor
  young-old happy-sad hard-soft long-short full-empty near-far early-late thick-thin strong-weak clean-dirty
  loud-quiet true-false first-last inside-outside push-pull begin-end win-lose buy-sell give-take alive-dead
  sweet-sour deep-shallow wide-narrow rough-smooth always-never before-after sick-healthy
`).map((pair) => pair.split('-') as [string, string]);

const ONSETS = list(
  'b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sh sk sl sp st t th tr v w y z',
);
const VOWELS = list('a e i o u ai ea ee ie oa oo ou');
const CODAS = [
  '',
  '',
  '',
  '',
  ...list('b ck ct d ft g ght l ld lk ll m mp n nd ng nt p r rd rn rt s sh ss st t tch x y'),
];
const LETTERS = [...'abcdefghijklmnopqrstuvwxyz'];

/**
 * A made-up word of 3 to 6 letters. A few hundred real words can be learned by heart; with these in between, only
 * reading the letters helps. Every second one is a row of random letters, so that guessing from the usual
 * neighbours does not help either.
 */
export function madeUpWord(random: Random): string {
  const length = 3 + random.below(4);
  let word = '';
  if (random.below(2) === 0) while (word.length < length) word += random.pick(LETTERS);
  else while (word.length < length) word += random.pick(ONSETS) + random.pick(VOWELS) + random.pick(CODAS);
  return word.slice(0, length);
}
