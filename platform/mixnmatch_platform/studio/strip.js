// Alternatives: the mixture with other values of one factor, one of which can be taken.

import { ask, newest, problem } from "./api.js";
import { titleOf } from "./slots.js";
import { FACTORS, fieldsOf, fixed, valuesOf } from "./state.js";

const get = (id) => document.getElementById(id);
const SHOWN = 12;

/**
 * Make the strip.
 * @param {object} studio `state`, `about` and `changed`
 * @returns {{refresh: () => void, clear: () => void, render: () => void}}
 */
export function makeStrip(studio) {
  const select = get("varied");
  const list = get("alternatives");
  const trouble = get("strip").querySelector(".problem");
  let start = 0;
  let shown = "";

  select.append(...FACTORS.map((factor) => new Option(titleOf(factor), factor)));
  select.value = "texture";

  const load = newest(0, async (signal) => {
    const factor = select.value;
    const asked = keyOf();
    const body = fieldsOf(studio.state, factor);
    body.set("factor", factor);
    body.set("start", start);
    body.set("count", countOf(factor));
    list.ariaBusy = "true";
    try {
      const answer = await (await ask("vary", { body, signal })).json();
      if (signal.aborted) return;
      problem(trouble);
      list.replaceChildren(...answer.pictures.map((picture, place) => thumbOf(factor, picture, answer.values[place])));
      shown = asked;
      mark();
    } catch (error) {
      if (signal.aborted) return;
      list.replaceChildren();
      problem(trouble, error.message);
    } finally {
      if (!signal.aborted) list.ariaBusy = "false";
    }
  });

  function countOf(factor) {
    return factor === "pose" ? step() : Math.min(step(), valuesOf(factor, studio.about) - start);
  }

  function step() {
    return Math.min(SHOWN, studio.about.limits.count);
  }

  /** All that the alternatives depend on; which of them is taken is not in it. */
  function keyOf() {
    const { state, about } = studio;
    const fields = [...fieldsOf(state, select.value)].filter(([, value]) => typeof value === "string");
    const keys = FACTORS.map((factor) => state.pictures[factor]?.key ?? "");
    return JSON.stringify([fields, keys, select.value, start, about.version]);
  }

  function thumbOf(factor, picture, value) {
    const item = get("thumb").content.cloneNode(true).firstElementChild;
    const button = item.querySelector("button");
    const image = item.querySelector("img");
    image.src = picture;
    image.classList.toggle("pixels", studio.about.image_size <= 128);
    image.alt = factor === "pose" ? "Pose seed" : `${titleOf(factor)}`;
    item.querySelector("span").textContent = String(value);
    button.dataset.value = value;
    button.addEventListener("click", () => {
      studio.state.chosen[factor] = value;
      studio.changed();
    });
    return item;
  }

  function mark() {
    const chosen = studio.state.chosen[select.value];
    for (const button of list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.value) === chosen));
    }
  }

  function render() {
    for (const option of select.options) {
      option.disabled = fixed(studio.state, option.value);
    }
    if (select.selectedOptions[0].disabled) turn("texture", 0);
    // A new version of the model may have fewer categories.
    else turn(select.value, start);
    const factor = select.value;
    const count = countOf(factor);
    const last = start + count;
    const of = factor === "pose" ? "" : ` of ${valuesOf(factor, studio.about)}`;
    get("range").textContent = `${factor === "pose" ? "seeds " : ""}${start} to ${last - 1}${of}`;
    get("fewer").disabled = start === 0;
    get("more").disabled = factor !== "pose" && last >= valuesOf(factor, studio.about);
    mark();
  }

  function turn(factor, first) {
    select.value = factor;
    const last = valuesOf(factor, studio.about) - 1;
    const most = factor === "pose" ? first : last - (last % step());
    start = Math.max(0, Math.min(first, most));
  }

  function refresh() {
    if (keyOf() !== shown) load();
  }

  function clear() {
    shown = "";
    list.replaceChildren();
    problem(trouble);
  }

  function turned(factor, first) {
    turn(factor, first);
    render();
    if (studio.mixed) refresh();
  }

  select.addEventListener("change", () => turned(select.value, 0));
  for (const [id, other, way] of [["fewer", "more", -1], ["more", "fewer", 1]]) {
    get(id).addEventListener("click", () => {
      turned(select.value, start + way * step());
      // At the end it is switched off, and would lose the focus to nothing.
      if (get(id).disabled) get(other).focus();
    });
  }
  return { refresh, clear, render };
}
