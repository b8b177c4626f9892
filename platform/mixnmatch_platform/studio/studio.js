// The mixing studio: one state, which the parts of the page change and show, and which is mixed.

import { makeAnimation } from "./animate.js";
import { ask, newest, onVersion, problem, save } from "./api.js";
import { showModel } from "./model.js";
import { makePicker } from "./picker.js";
import { galleryPicture, isLarge, ownPicture, release } from "./pictures.js";
import { makeSketch } from "./sketch.js";
import { makeSlots } from "./slots.js";
import { addressOf, FACTORS, fieldsOf, fixed, missing, nothing, picksOf, stateOf } from "./state.js";
import { makeStrip } from "./strip.js";

const get = (id) => document.getElementById(id);
/** Milliseconds without a change after which a request is sent. */
const PAUSE = 150;
const modes = get("tools").elements.mode;

const studio = {
  state: nothing(),
  about: null,
  /** The last answer to /mix, or null where what is shown is of something else. */
  mixed: null,
  /** Categories that the picture shown was painted from. */
  codes: null,
  changed,
  put,
  take,
  clear,
};
const sketch = makeSketch(drawn, (file) => takeDrawing(file));
const slots = makeSlots(studio, makePicker(studio), toggleSketch);
const strip = makeStrip(studio);
const animation = makeAnimation(studio);

/** How often each slot has been chosen for. */
const choices = Object.fromEntries(FACTORS.map((factor) => [factor, 0]));

/** Count a choice for a slot: what is still read for an older one will be dropped. */
function choice(factor, reading = "") {
  slots.reading(factor, reading);
  choices[factor] += 1;
  return choices[factor];
}

function put(factor, picture) {
  choice(factor);
  const { pictures } = studio.state;
  const before = pictures[factor];
  pictures[factor] = picture;
  release(before, pictures);
  if (studio.codes) studio.codes[factor] = null;
  // A drawing's tick is of the picture that it was ticked for.
  if (factor === "shape" && !picture?.drawing) {
    studio.state.sketch = false;
    sketch.forget();
  }
  changed(factor);
}

function take(factor, file) {
  read(factor, file, (picture) => put(factor, picture));
}

/** Read a file for a slot, and use it unless something newer has been chosen in the meantime. */
async function read(factor, file, use) {
  const mine = choice(factor, isLarge(file) ? file.name : "");
  try {
    const picture = await ownPicture(file, studio.about);
    if (mine === choices[factor]) use(picture);
    else release(picture, studio.state.pictures);
  } catch (error) {
    if (mine !== choices[factor]) return;
    slots.reading(factor, "");
    slots.say(factor, error.message);
  }
}

function clear(factor) {
  put(factor, null);
}

function takeDrawing(file, mine = false) {
  read("shape", file, (picture) => {
    if (!mine) sketch.forget();
    studio.state.sketch = true;
    put("shape", { ...picture, drawing: true });
  });
}

function drawn(blob) {
  if (blob) takeDrawing(new File([blob], "drawing.png", { type: "image/png" }), true);
  else if (studio.state.pictures.shape?.drawing) clear("shape");
}

function toggleSketch() {
  const open = sketch.toggle();
  const button = slots.card("shape").querySelector(".draw");
  button.setAttribute("aria-expanded", String(open));
  if (!open) button.focus();
  // Code mode knows a shape as a category only: a drawing's outline would say little.
  if (open && studio.about.modes.includes("feature") && studio.state.mode !== "feature") {
    studio.state.mode = "feature";
    changed();
  }
}

/** Show the state and have it mixed; of a factor whose picture changed, forget what was wrong. */
function changed(factor = null) {
  if (factor) {
    studio.state.faults[factor] = "";
    slots.say(factor);
  }
  render();
  mix();
}

const mix = newest(PAUSE, async (signal) => {
  history.replaceState(null, "", addressOf(studio.state, studio.about));
  const needed = missing(studio.state);
  problem(get("trouble"));
  if (needed.length) {
    stale(`Still to choose: ${needed.join(", ")}.`);
    return;
  }
  get("mixed").ariaBusy = "true";
  try {
    const answer = await (await ask("mix", { body: fieldsOf(studio.state), accept: "application/json", signal })).json();
    if (signal.aborted) return;
    show(answer);
  } catch (error) {
    if (!signal.aborted) blame(error);
  } finally {
    if (!signal.aborted) get("mixed").ariaBusy = "false";
  }
});

function show(answer) {
  const { state } = studio;
  studio.mixed = { ...answer, mode: state.mode, sources: sourcesOf(), address: location.href };
  studio.codes = answer.codes;
  const words = FACTORS.filter((factor) => !fixed(state, factor)).map((factor) =>
    factor !== "pose"
      ? `${factor} ${answer.codes[factor]}`
      : state.chosen.pose === null
        ? "pose of a picture"
        : `pose seed ${state.chosen.pose}`,
  );
  const line = `Mixed in ${state.mode} mode: ${words.join(", ")}.`;
  const image = get("picture");
  image.src = answer.picture;
  image.alt = line;
  image.hidden = false;
  get("none").hidden = true;
  get("mixed").classList.remove("stale");
  get("said").textContent = line;
  for (const factor of FACTORS) slots.say(factor, state.faults[factor]);
  render();
  strip.refresh();
}

/** What is shown is no longer what is chosen. */
function stale(line) {
  studio.mixed = null;
  get("mixed").ariaBusy = "false";
  get("mixed").classList.add("stale");
  get("said").textContent = line;
  strip.clear();
  render();
}

/** Say what went wrong beside what caused it: a line of the server begins with the field. */
function blame(error) {
  const factor = FACTORS.find((name) => error.message.startsWith(name));
  if (factor && error.status >= 400 && error.status < 500 && studio.state.pictures[factor]) {
    stale(`Not mixed: look at the ${factor} picture.`);
    const { name } = studio.state.pictures[factor];
    slots.say(factor, error.message.replace(`${factor}: `, () => `${name}: `));
  } else {
    stale("Not mixed.");
    problem(get("trouble"), error.message);
  }
}

function sourcesOf() {
  const { pictures, chosen } = studio.state;
  const nameOf = (picture) => picture && (picture.id ? `gallery:${picture.id}` : picture.name);
  return Object.fromEntries(
    FACTORS.map((factor) => [factor, { picture: nameOf(pictures[factor]), chosen: chosen[factor] }]),
  );
}

function render() {
  const { state } = studio;
  for (const radio of modes) radio.checked = radio.value === state.mode;
  get("seed").value = state.seed ?? "";
  const own = FACTORS.filter((factor) => state.pictures[factor] && !state.pictures[factor].id);
  get("link-note").textContent = own.length
    ? `The link cannot carry your own pictures: ${own.join(", ")}.`
    : "";
  for (const id of ["save-picture", "save-codes"]) get(id).disabled = studio.mixed === null;
  slots.render();
  strip.render();
  animation.render();
}

function surprise(seed) {
  const { mode } = studio.state;
  const picks = picksOf(seed, studio.about.gallery);
  const state = { ...nothing(), seed, mode };
  for (const factor of FACTORS) {
    if (picks[factor]) state.pictures[factor] = galleryPicture(picks[factor]);
  }
  begin(state);
}

/** Begin anew: nothing of what was chosen before is kept, or comes in late. */
function begin(state) {
  const { pictures } = studio.state;
  studio.state = state;
  studio.codes = null;
  for (const factor of FACTORS) {
    choice(factor);
    release(pictures[factor], state.pictures);
    slots.say(factor, state.faults[factor]);
  }
  sketch.forget();
  changed();
}

function readAddress() {
  const { about } = studio;
  const version = new URLSearchParams(location.hash.slice(1)).get("version");
  get("notice").textContent =
    version !== null && version !== String(about.version)
      ? `The link is of version ${version} of the model; this is version ${about.version}, which paints it in its own way.`
      : "";
  begin(stateOf(location.hash, about, galleryPicture));
}

async function loadAbout() {
  studio.about = await (await ask("about")).json();
  showModel(studio.about);
}

async function newVersion() {
  const before = studio.about.version;
  try {
    await loadAbout();
    // Of several replicas one may still have answered with the old model.
    if (studio.about.version === before) return;
    get("notice").textContent =
      `The model has changed from version ${before} to ${studio.about.version}: mixtures may look different.`;
    // What was chosen of the old model may not be there in the new one.
    studio.state = keptBy(studio.about);
    changed();
  } catch (error) {
    get("notice").textContent = error.message;
  }
}

function keptBy(about) {
  const kept = stateOf(addressOf(studio.state, about), about, galleryPicture);
  kept.sketch = studio.state.sketch;
  for (const factor of FACTORS) {
    const own = studio.state.pictures[factor];
    if (own && !own.id) {
      kept.pictures[factor] = own;
      kept.faults[factor] = "";
    }
  }
  return kept;
}

async function start() {
  problem(get("failed"));
  try {
    await loadAbout();
  } catch (error) {
    problem(get("failed"), error.message);
    return;
  }
  for (const part of [get("tools"), document.querySelector("main")]) part.inert = false;
  if (location.hash.length > 1 || studio.about.gallery.length === 0) readAddress();
  else surprise(1);
}

let changing = null;
onVersion((version) => {
  if (changing || !studio.about || version === String(studio.about.version)) return;
  changing = newVersion().finally(() => (changing = null));
});

get("tools").addEventListener("submit", (event) => event.preventDefault());
for (const radio of modes) {
  radio.addEventListener("change", () => {
    studio.state.mode = radio.value;
    changed();
  });
}
get("seed").addEventListener("change", (event) => {
  if (event.target.value !== "" && event.target.validity.valid) surprise(Number(event.target.value));
  else render();
});
get("surprise").addEventListener("click", () => surprise(Math.floor(Math.random() * 100_000)));
get("link").addEventListener("click", async () => {
  const button = get("link");
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "Link copied";
    setTimeout(() => (button.textContent = "Copy link"), 2000);
  } catch {
    get("link-note").textContent = "This browser lets no button copy here: copy the page's address.";
  }
});
get("trouble").querySelector("button").addEventListener("click", () => changed());
get("failed").querySelector("button").addEventListener("click", start);
get("sketch-close").addEventListener("click", toggleSketch);
get("save-picture").addEventListener("click", () => save(studio.mixed.picture, "mix.png"));
get("save-codes").addEventListener("click", () => {
  const { picture, address, ...codes } = studio.mixed;
  const text = JSON.stringify({ model: studio.about.model, ...codes, link: address }, null, 2);
  save(`data:application/json,${encodeURIComponent(text)}`, "mix.json");
});
addEventListener("hashchange", () => studio.about && readAddress());
start();
