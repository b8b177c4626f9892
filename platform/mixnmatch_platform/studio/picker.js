// The dialog that offers pictures for one slot: files, clipboard, camera, other slots, the gallery.

import { problem } from "./api.js";
import { fileOf, galleryPicture, preview } from "./pictures.js";
import { FACTORS } from "./state.js";

const get = (id) => document.getElementById(id);

/**
 * Make the dialog.
 * @param {object} studio `state`, `about`; `put` and `take`
 * @returns {(factor: string) => void} opens it
 */
export function makePicker(studio) {
  const dialog = get("picker");
  const trouble = dialog.querySelector(".problem");
  const video = dialog.querySelector("video");
  let factor = FACTORS[0];
  let stream = null;

  function open(name) {
    factor = name;
    get("picker-title").textContent = `Picture for the ${factor}`;
    problem(trouble);
    const others = FACTORS.filter((other) => other !== factor && studio.state.pictures[other]);
    get("same").hidden = others.length === 0;
    get("same").querySelector("span").replaceChildren(
      ...others.map((other) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = other;
        button.setAttribute("aria-label", `As in ${other}`);
        button.addEventListener("click", () => put(studio.state.pictures[other]));
        return button;
      }),
    );
    get("gallery-note").textContent = studio.about.gallery.length ? "" : "This server has no example pictures.";
    showGallery();
    dialog.showModal();
  }

  function showGallery() {
    const ids = studio.about.gallery;
    const list = get("gallery");
    if (list.dataset.shown !== ids.join("\n")) {
      list.dataset.shown = ids.join("\n");
      list.replaceChildren(...ids.map(thumbOf));
    }
    for (const button of list.querySelectorAll("button")) {
      const now = button.dataset.id === studio.state.pictures[factor]?.id;
      button.setAttribute("aria-pressed", String(now));
    }
  }

  function thumbOf(id) {
    const item = get("thumb").content.cloneNode(true).firstElementChild;
    const picture = galleryPicture(id);
    const image = item.querySelector("img");
    const button = item.querySelector("button");
    image.alt = id;
    image.classList.toggle("pixels", studio.about.image_size <= 128);
    button.dataset.id = id;
    button.title = id;
    button.addEventListener("click", () => put(picture));
    preview(picture).then(
      () => (image.src = picture.url),
      (error) => problem(trouble, error.message),
    );
    return item;
  }

  function put(picture) {
    dialog.close();
    studio.put(factor, picture);
  }

  function take(file) {
    dialog.close();
    studio.take(factor, file);
  }

  async function paste() {
    problem(trouble);
    if (!navigator.clipboard?.read) {
      problem(trouble, "This browser lets no button read the clipboard here: press Ctrl+V or ⌘V instead.");
      return;
    }
    try {
      for (const item of await navigator.clipboard.read()) {
        const type = item.types.find((name) => name.startsWith("image/"));
        if (type) {
          take(new File([await item.getType(type)], "pasted picture", { type }));
          return;
        }
      }
      problem(trouble, "There is no picture in the clipboard.");
    } catch {
      problem(trouble, "The clipboard was not readable: allow it, or press Ctrl+V or ⌘V instead.");
    }
  }

  async function film() {
    problem(trouble);
    if (!navigator.mediaDevices) {
      problem(trouble, "Browsers give a page the camera only over https or on this machine: use From a file.");
      return;
    }
    try {
      const opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      // The dialog may have been closed while the user was asked.
      if (!dialog.open) {
        stop(opened);
        return;
      }
      stop(stream);
      stream = opened;
      video.srcObject = stream;
      await video.play();
      get("shot").hidden = false;
      get("shoot").focus();
    } catch (error) {
      problem(trouble, `The camera cannot be used: ${error.message || error.name}.`);
    }
  }

  function shoot() {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => take(new File([blob], "camera picture", { type: "image/png" })), "image/png");
  }

  function stop(opened) {
    for (const track of opened?.getTracks() ?? []) track.stop();
  }

  get("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) take(file);
    // So that the same file can be chosen again.
    event.target.value = "";
  });
  get("paste").addEventListener("click", paste);
  get("camera").addEventListener("click", film);
  get("shoot").addEventListener("click", shoot);
  get("picker-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("paste", (event) => {
    const file = fileOf(event.clipboardData);
    if (file) take(file);
    else problem(trouble, "There is no picture in the clipboard.");
  });
  dialog.addEventListener("close", () => {
    stop(stream);
    stream = null;
    video.srcObject = null;
    get("shot").hidden = true;
    document.querySelector(`[data-factor=${factor}] .choose`).focus();
  });
  return open;
}
