// What the server says of its model: name, version, sizes, figures, and what it cannot do.

const get = (id) => document.getElementById(id);

/** Show an answer of /about. */
export function showModel(about) {
  const { background, shape, texture } = about.categories;
  const named = about.version === null ? about.model : `${about.model}, version ${about.version}`;
  get("model").hidden = false;
  get("model").querySelector("summary").textContent = named;
  get("sizes").textContent =
    `${about.image_size}×${about.image_size} px; ${background} backgrounds, ${shape} shapes, ${texture} textures.`;
  get("figures").replaceChildren(...rowsOf(about.figures));
  const feature = about.modes.includes("feature");
  for (const radio of get("tools").elements.mode) radio.disabled = radio.value === "feature" && !feature;
  get("mode-note").textContent = feature
    ? "Code takes pose and shape as codes; feature follows the outline of the shape picture."
    : "Feature mode is off: this model has not been through stage 2.";
  for (const id of ["surprise", "seed"]) get(id).disabled = about.gallery.length === 0;
  get("picture").classList.toggle("pixels", about.image_size <= 128);
}

/** The main figures, each with its interval and its level by chance; the detailed ones are left out. */
function rowsOf(figures) {
  const shown = (value) => (typeof value === "number" ? String(Number(value.toPrecision(3))) : "none");
  return Object.keys(figures)
    .filter((name) => !name.includes("/") || /^(feature_)?accuracy\//.test(name))
    .map((name) => {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const figure = document.createElement("dd");
      const [low, high, chance] = ["low", "high", "chance"].map((what) => figures[`${what}/${name}`]);
      const more = [
        low === undefined || high === undefined ? "" : `${shown(low)} to ${shown(high)}`,
        chance === undefined ? "" : `chance ${shown(chance)}`,
      ].filter(Boolean);
      term.textContent = name;
      figure.textContent = shown(figures[name]) + (more.length ? ` (${more.join("; ")})` : "");
      row.append(term, figure);
      return row;
    });
}
