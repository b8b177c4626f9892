// A film in, the same film painted with the texture and background of the slots out.

import { ask, problem, save } from "./api.js";
import { megabytes } from "./pictures.js";
import { setPicture } from "./state.js";

const get = (id) => document.getElementById(id);

/**
 * Make the section.
 * @param {object} studio `state`
 * @returns {{render: () => void}}
 */
export function makeAnimation(studio) {
  const section = get("animate");
  const trouble = section.querySelector(".problem");
  const image = get("painted");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let film = null;
  let running = null;
  let url = null;

  function take(file) {
    const most = studio.about.limits.film_bytes;
    const fits = file.size <= most;
    film = fits ? file : null;
    get("film-name").textContent = fits ? file.name : "none chosen";
    problem(
      trouble,
      fits ? "" : `${file.name} has ${megabytes(file.size)} MB: the server takes up to ${megabytes(most)} MB.`,
    );
    render();
  }

  function render() {
    const lacks = ["background", "texture"].filter((factor) => !studio.state.pictures[factor]);
    get("paint").disabled = !film || running !== null || lacks.length > 0;
    get("stop").hidden = running === null;
    get("save-film").disabled = url === null;
    if (running) return;
    get("film-said").textContent =
      film && lacks.length ? `An animation needs a picture for the ${lacks.join(" and the ")}.` : "";
  }

  async function paint() {
    const { mode, pictures } = studio.state;
    // Another one may be chosen while this one is painted.
    const source = film;
    const body = new FormData();
    body.set("driving", source, source.name);
    body.set("mode", mode);
    for (const factor of ["background", "texture"]) setPicture(body, factor, pictures[factor]);
    running = new AbortController();
    const { signal } = running;
    problem(trouble);
    render();
    get("film-said").textContent = "Painting each frame …";
    get("stop").focus();
    let said = "";
    try {
      const painted = await (await ask("animate", { body, signal })).blob();
      if (url) URL.revokeObjectURL(url);
      url = URL.createObjectURL(painted);
      image.hidden = true;
      image.classList.toggle("pixels", studio.about.image_size <= 128);
      image.alt = `Painted animation after ${source.name}`;
      get("play").hidden = !still.matches;
      if (!still.matches) show();
      said = `Painted after ${source.name}, in ${mode} mode.`;
    } catch (error) {
      if (signal.aborted) said = "Stopped.";
      else problem(trouble, error.message.replace(/^driving/, () => source.name));
    } finally {
      running = null;
    }
    render();
    get("film-said").textContent = said;
    // Browsers take the focus off what is hidden now, or a moment later.
    if ([get("stop"), document.body].includes(document.activeElement)) {
      get(get("paint").disabled ? "film" : "paint").focus();
    }
  }

  function show() {
    image.src = url;
    image.hidden = false;
    get("play").hidden = true;
  }

  get("film").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) take(file);
    event.target.value = "";
  });
  section.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
  get("paint").addEventListener("click", paint);
  get("stop").addEventListener("click", () => running?.abort());
  get("play").addEventListener("click", show);
  get("save-film").addEventListener("click", () => save(url, "mix.gif"));
  return { render };
}
