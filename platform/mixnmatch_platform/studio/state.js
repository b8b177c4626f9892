// What is mixed: pictures, mode and chosen values; as the fields of a request and as an address.

export const FACTORS = ["background", "pose", "shape", "texture"];
/** The field that sets a single factor in place of its picture. */
export const FIELD = {
  background: "background_code",
  pose: "pose_seed",
  shape: "shape_code",
  texture: "texture_code",
};
const of = (value) => Object.fromEntries(FACTORS.map((factor) => [factor, value]));

/**
 * Nothing chosen. A picture is `{key, name, url}` with either `id`, of the gallery, or `blob`.
 * `faults` has what is wrong with the link that the state is of.
 */
export function nothing() {
  return { seed: null, mode: "code", sketch: false, pictures: of(null), chosen: of(null), faults: of("") };
}

/** Whether feature mode, which takes shape and pose from the outline, leaves this factor no code. */
export function fixed(state, factor) {
  return state.mode === "feature" && (factor === "pose" || factor === "shape");
}

/** How many values a factor's slider has; of poses any seed will do, a hundred are enough. */
export function valuesOf(factor, about) {
  return factor === "pose" ? 100 : about.categories[factor];
}

/** The factors that still need a picture or a value before anything can be mixed. */
export function missing({ mode, pictures, chosen }) {
  const given = (factor) => pictures[factor] || (chosen[factor] !== null && !(mode === "feature" && factor === "shape"));
  const needed = FACTORS.filter((factor) => factor !== "pose" && !given(factor));
  if (mode === "code" && !given("pose") && !pictures.shape && given("shape")) needed.push("pose");
  return needed;
}

/**
 * The fields of a request.
 * @param {string | null} varied a factor whose chosen value is left out
 */
export function fieldsOf(state, varied = null) {
  const form = new FormData();
  form.set("mode", state.mode);
  if (state.sketch) form.set("sketch", "true");
  for (const factor of FACTORS) {
    const picture = state.pictures[factor];
    if (picture && !(factor === "pose" && state.mode === "feature")) setPicture(form, factor, picture);
    const value = state.chosen[factor];
    const left = fixed(state, factor) || factor === varied;
    if (value !== null && !left) form.set(FIELD[factor], value);
  }
  return form;
}

/** Set a field of a request to a picture. */
export function setPicture(form, name, picture) {
  if (picture.id) form.set(name, `gallery:${picture.id}`);
  else form.set(name, picture.blob, picture.name);
}

/** Pictures of the gallery for the four factors, different ones if there are four. */
export function picksOf(seed, gallery) {
  const random = generator(seed);
  const left = [...gallery].sort();
  const picks = {};
  for (const factor of FACTORS) {
    if (left.length === 0) left.push(...gallery);
    picks[factor] = left.splice(Math.floor(random() * left.length), 1)[0];
  }
  return picks;
}

/** Numbers in [0, 1) by a 32-bit xorshift-multiply of a counter: the same ones everywhere. */
function generator(seed) {
  let count = seed >>> 0;
  return () => {
    count = (count + 0x9e3779b9) >>> 0;
    let bits = count;
    bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
    bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
    return ((bits ^ (bits >>> 16)) >>> 0) / 2 ** 32;
  };
}

/** The fragment that says all of a state but its own pictures. */
export function addressOf(state, about) {
  const words = new URLSearchParams();
  const picks = state.seed === null ? {} : picksOf(state.seed, about.gallery);
  if (state.seed !== null) words.set("seed", state.seed);
  words.set("mode", state.mode);
  for (const factor of FACTORS) {
    const picture = state.pictures[factor];
    if (picture && !picture.id) words.append("own", factor);
    else if ((picture?.id ?? "") !== (picks[factor] ?? "")) words.set(factor, picture?.id ?? "");
    if (state.chosen[factor] !== null) words.set(FIELD[factor], state.chosen[factor]);
  }
  if (about.version !== null) words.set("version", about.version);
  return `#${words}`;
}

/**
 * The state that a fragment says; what it says wrongly is left out, and named in `faults`.
 * @param {(id: string) => object} pictureOf a picture of the gallery
 */
export function stateOf(fragment, about, pictureOf) {
  const words = new URLSearchParams(fragment.slice(1));
  const state = nothing();
  const seed = wholeNumber(words.get("seed"), 2 ** 32);
  state.seed = seed;
  const picks = seed === null ? {} : picksOf(seed, about.gallery);
  const own = words.getAll("own");
  if (words.get("mode") === "feature" && about.modes.includes("feature")) state.mode = "feature";
  for (const factor of FACTORS) {
    const id = own.includes(factor) ? "" : (words.get(factor) ?? picks[factor]);
    if (id && about.gallery.includes(id)) state.pictures[factor] = pictureOf(id);
    else if (id) state.faults[factor] = `The link names ${id}, which the gallery does not have.`;
    if (own.includes(factor)) {
      state.faults[factor] = "The link could not carry this picture: choose it again.";
    }
    const said = words.get(FIELD[factor]);
    if (said === null) continue;
    const count = factor === "pose" ? 2 ** 32 : valuesOf(factor, about);
    state.chosen[factor] = wholeNumber(said, count);
    if (state.chosen[factor] === null) {
      state.faults[factor] = `The link says ${FIELD[factor]} ${said}: it must be from 0 to ${count - 1}.`;
    }
  }
  return state;
}

function wholeNumber(text, bound) {
  return text !== null && /^\d{1,10}$/.test(text) && Number(text) < bound ? Number(text) : null;
}
