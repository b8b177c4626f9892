// The four slots: their pictures by drop and paste, their sliders, and what is wrong with them.

import { problem } from "./api.js";
import { fileOf, preview } from "./pictures.js";
import { FACTORS, fixed, valuesOf } from "./state.js";

const SLOT = "application/x-mixnmatch-slot";
const get = (id) => document.getElementById(id);
export const titleOf = (factor) => factor[0].toUpperCase() + factor.slice(1);

/**
 * Make the slots.
 * @param {object} studio `state`, `about`, `codes`; `put`, `take`, `clear` and `changed`
 * @param {(factor: string) => void} choose open what offers pictures for a slot
 * @param {() => void} draw open or close the drawing paper
 */
export function makeSlots(studio, choose, draw) {
  const cards = Object.fromEntries(FACTORS.map((factor) => [factor, makeSlot(factor)]));
  get("slots").append(...FACTORS.map((factor) => cards[factor]));

  function makeSlot(factor) {
    const card = get("slot").content.cloneNode(true).firstElementChild;
    const find = (selector) => card.querySelector(selector);
    card.dataset.factor = factor;
    find("h2").textContent = titleOf(factor);
    find("h2").id = `${factor}-title`;
    card.setAttribute("aria-labelledby", `${factor}-title`);
    find(".problem").id = `${factor}-problem`;
    find(".why").id = `${factor}-why`;
    for (const name of ["choose", "draw", "clear"]) {
      const button = find(`.${name}`);
      button.setAttribute("aria-label", `${button.textContent} ${factor}`);
      button.setAttribute("aria-describedby", `${factor}-problem ${factor}-why`);
    }
    if (factor !== "shape") {
      find(".draw").remove();
      find(".tick").remove();
    } else {
      find(".draw").addEventListener("click", draw);
      find(".paper").addEventListener("change", (event) => {
        studio.state.sketch = event.target.checked;
        studio.changed(factor);
      });
    }
    find(".choose").addEventListener("click", () => choose(factor));
    find(".preview").addEventListener("click", () => find(".choose").click());
    find(".clear").addEventListener("click", () => {
      studio.clear(factor);
      find(".choose").focus();
    });
    const slider = find("input[type=range]");
    slider.id = `${factor}-value`;
    find(".name").htmlFor = slider.id;
    find(".name").textContent = factor === "pose" ? "Pose seed" : "Category";
    slider.setAttribute("aria-label", factor === "pose" ? "Pose seed" : `${factor} category`);
    find(".reset").setAttribute("aria-label", `Reset ${factor} to its picture's`);
    slider.addEventListener("input", () => {
      studio.state.chosen[factor] = Number(slider.value);
      studio.changed();
    });
    find(".reset").addEventListener("click", () => {
      studio.state.chosen[factor] = null;
      slider.focus();
      studio.changed();
    });
    acceptDrops(card, factor);
    return card;
  }

  function acceptDrops(card, factor) {
    const open = () => !(factor === "pose" && studio.state.mode === "feature");
    card.addEventListener("dragstart", (event) => {
      if (studio.state.pictures[factor]) event.dataTransfer.setData(SLOT, factor);
      event.dataTransfer.effectAllowed = "copy";
    });
    card.addEventListener("dragover", (event) => {
      if (!open()) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
      card.classList.add("over");
    });
    card.addEventListener("dragleave", (event) => {
      if (!card.contains(event.relatedTarget)) card.classList.remove("over");
    });
    card.addEventListener("drop", (event) => {
      card.classList.remove("over");
      if (!open()) return;
      event.preventDefault();
      const from = event.dataTransfer.getData(SLOT);
      const file = fileOf(event.dataTransfer);
      if (from) {
        if (from !== factor) studio.put(factor, studio.state.pictures[from]);
      } else if (file) studio.take(factor, file);
      else say(factor, "That was a link and no file: save the picture first, then drop its file.");
    });
  }

  function say(factor, line) {
    problem(cards[factor].querySelector(".problem"), line);
  }

  /** Say that a file is being read, or with "" that none is. */
  function reading(factor, name) {
    cards[factor].querySelector(".reading").textContent = name && `Reading ${name} …`;
  }

  function render() {
    for (const factor of FACTORS) renderSlot(factor);
  }

  function renderSlot(factor) {
    const { state, about, codes } = studio;
    const card = cards[factor];
    const find = (selector) => card.querySelector(selector);
    const picture = state.pictures[factor];
    const chosen = state.chosen[factor];
    const off = factor === "pose" && state.mode === "feature";
    card.classList.toggle("off", off);
    for (const name of ["choose", "draw", "clear"]) {
      const button = find(`.${name}`);
      if (button) button.disabled = off || (name === "clear" && !picture);
    }
    if (factor === "shape") {
      find(".paper").checked = state.sketch;
      find(".paper").disabled = !picture?.blob;
    }
    find(".why").textContent = !fixed(state, factor)
      ? ""
      : off
        ? "Feature mode takes the pose from the shape picture."
        : "Feature mode follows the picture's outline: no categories.";
    if (!picture) {
      find(".empty").textContent =
        factor === "pose" ? "As in the shape picture; or drop, paste or choose one" : "Drop, paste or choose a picture";
    }
    show(find(".preview img"), find(".empty"), picture, `${titleOf(factor)} picture: ${picture?.name}`);

    const slider = find("input[type=range]");
    const own = factor === "pose" ? null : (codes?.[factor] ?? null);
    slider.disabled = fixed(state, factor);
    slider.max = Math.max(valuesOf(factor, about) - 1, chosen ?? 0);
    slider.value = chosen ?? own ?? 0;
    const text =
      chosen !== null
        ? `${chosen}, chosen`
        : fixed(state, factor) || (!picture && factor !== "pose")
          ? "none"
          : own === null
            ? "the picture's"
            : `${own}, the picture's`;
    find(".value").textContent = text;
    slider.setAttribute("aria-valuetext", text);
    find(".reset").disabled = chosen === null || fixed(state, factor);
  }

  /** Show a picture once it is there; one that the browser cannot read has no more than a name. */
  function show(image, empty, picture, words) {
    if (image.dataset.key === (picture?.key ?? "")) return;
    image.dataset.key = picture?.key ?? "";
    image.hidden = true;
    empty.hidden = Boolean(picture);
    if (!picture) return;
    const still = () => image.dataset.key === picture.key;
    const named = () => {
      if (!still()) return;
      image.hidden = true;
      empty.hidden = false;
      empty.textContent = `${picture.name} (no preview)`;
    };
    image.onerror = named;
    image.alt = words;
    Promise.resolve(picture.url ?? preview(picture)).then(() => {
      if (!still()) return;
      image.classList.toggle("pixels", Boolean(picture.id) && studio.about.image_size <= 128);
      image.src = picture.url;
      image.hidden = false;
    }, named);
  }

  addEventListener("paste", (event) => {
    if (!studio.about || document.querySelector("dialog[open]")) return;
    const file = fileOf(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    const at = document.activeElement?.closest(".slot") ?? document.querySelector(".slot:hover");
    const factor = at?.dataset.factor ?? FACTORS.find((name) => !studio.state.pictures[name]) ?? "background";
    studio.take(factor, file);
  });
  // A file that misses the slots must not replace the page.
  for (const name of ["dragover", "drop"]) {
    addEventListener(name, (event) => event.preventDefault());
  }
  return { render, say, reading, card: (factor) => cards[factor] };
}
