"use strict";
// Whatever comes from data goes into the page as text, never as HTML.
// The filters are kept in the address, so that what is shown can be linked to.
{
  const CARDS = 24;
  const REJECTS = 100;
  const get = (id) => document.getElementById(id);
  const data = JSON.parse(get("data").textContent);
  const form = get("filters");
  const fields = form.elements;
  let page = 0;
  let rejectsShown = REJECTS;

  function fill(select, all, values) {
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    select.append(new Option(all, ""));
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    for (const value of [...counts.keys()].sort(compare)) {
      select.append(new Option(`${value} (${counts.get(value)})`, value));
    }
  }

  function readAddress() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const name of ["class", "split", "remark", "sort", "reject", "text"]) {
      fields[name].value = wanted.get(name) ?? "";
      if (fields[name].selectedIndex === -1) fields[name].selectedIndex = 0;
    }
    fields.marks.checked = wanted.get("marks") !== "off";
    page = Math.max(0, (parseInt(wanted.get("page"), 10) || 1) - 1);
    rejectsShown = REJECTS;
    if (fields.reject.value) get("rejects").open = true;
    show();
  }

  function writeAddress() {
    const state = new URLSearchParams();
    for (const name of ["class", "split", "remark", "text", "sort", "reject"]) {
      if (fields[name].value) state.set(name, fields[name].value);
    }
    if (!fields.marks.checked) state.set("marks", "off");
    if (page) state.set("page", page + 1);
    history.replaceState(null, "", `#${state}`);
  }

  function chosen() {
    const text = fields.text.value.trim().toLowerCase();
    const items = data.items.filter(
      (item) =>
        (!fields.class.value || item.class === fields.class.value) &&
        (!fields.split.value || item.split === fields.split.value) &&
        (!fields.remark.value || item.kinds.includes(fields.remark.value)) &&
        (!text ||
          [item.id, item.source, item.class, item.problem ?? "", ...item.remarks]
            .join("\n")
            .toLowerCase()
            .includes(text)),
    );
    const sign = { small: 1, large: -1 }[fields.sort.value];
    // Of a box that is none there is no share: last, whatever the order.
    const rank = (item) => (item.share === null ? Infinity : sign * item.share);
    return sign ? items.sort((a, b) => (rank(a) < rank(b) ? -1 : rank(a) > rank(b) ? 1 : 0)) : items;
  }

  function panelOf(panel, name, item) {
    const node = get("panel").content.cloneNode(true).firstElementChild;
    const [width, height] = panel.size;
    const [left, top, right, bottom] = panel.corners;
    const image = node.querySelector("img");
    image.width = width;
    image.height = height;
    image.alt = `${name} of ${item.class}, id ${item.id}`;
    image.src = panel.src;
    node.querySelector(".frame").style.maxWidth = `${16 * Math.min(1, width / height)}rem`;
    const svg = node.querySelector("svg");
    const rect = node.querySelector("rect");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const values = { x: left, y: top, width: right - left, height: bottom - top };
    for (const [key, value] of Object.entries(values)) rect.setAttribute(key, value);
    for (const [part, x, y] of panel.parts) {
      const dot = document.createElementNS(svg.namespaceURI, "ellipse");
      const radius = Math.max(width, height) / 90;
      const place = { cx: x, cy: y, rx: radius, ry: radius };
      for (const [key, value] of Object.entries(place)) dot.setAttribute(key, value);
      const title = document.createElementNS(svg.namespaceURI, "title");
      title.textContent = data.parts[part] ?? `part ${part}`;
      dot.append(title);
      svg.append(dot);
    }
    const seen = right > left ? "" : ": nothing of the object";
    node.querySelector("figcaption").textContent = `${name}${seen}`;
    return node;
  }

  function cardOf(item) {
    const node = get("card").content.cloneNode(true).firstElementChild;
    const say = (name, text) => (node.querySelector(name).textContent = text);
    say(".class", item.class);
    say(".source bdi", item.source);
    say(".problem", item.problem ? `cannot be shown: ${item.problem}` : "");
    say(".id", item.id);
    say(".split", item.split);
    say(".size", `${item.size[0]}×${item.size[1]} px`);
    const edge = (value) => (value === null ? "no number" : Math.round(100 * value) / 100);
    say(".box", item.box.map(edge).join(", "));
    say(".share", item.share === null ? "unknown" : `${(100 * item.share).toFixed(1)} % of the picture`);
    say(".remarks", item.remarks.join("; ") || "none");
    const panels = item.panels.map((panel, place) => panelOf(panel, data.panels[place], item));
    node.querySelector(".panels").append(...panels);
    return node;
  }

  function rejectOf(reject) {
    const row = document.createElement("tr");
    for (const text of [reject.source, reject.reason]) {
      const name = document.createElement("bdi");
      name.textContent = text;
      row.insertCell().append(name);
    }
    return row;
  }

  function show() {
    const items = chosen();
    const pages = Math.max(1, Math.ceil(items.length / CARDS));
    page = Math.min(page, pages - 1);
    const start = page * CARDS;
    get("cards").classList.toggle("plain", !fields.marks.checked);
    get("cards").replaceChildren(...items.slice(start, start + CARDS).map(cardOf));
    get("found").textContent = items.length
      ? `${start + 1} to ${Math.min(start + CARDS, items.length)} of ` +
        (items.length === 1 ? "1 picture" : `${items.length} pictures`)
      : "No picture is like that";
    get("page").textContent = `page ${page + 1} of ${pages}`;
    get("previous").disabled = page === 0;
    get("next").disabled = page === pages - 1;

    const kind = fields.reject.value;
    const rejects = data.rejects.filter((reject) => !kind || reject.kind === kind);
    document
      .querySelector("#rejects tbody")
      .replaceChildren(...rejects.slice(0, rejectsShown).map(rejectOf));
    get("more").hidden = rejects.length <= rejectsShown;
    get("more").textContent = `Show more of ${rejects.length}`;
  }

  function change() {
    show();
    // Last: a browser may refuse it to one who types fast.
    writeAddress();
  }

  function turn(step) {
    page += step;
    change();
    get("found").focus();
  }

  get("about").textContent = data.about;
  document.querySelector("#rejects summary").textContent =
    `${data.rejects.length} left out when the data set was made`;
  get("rejects").hidden = data.rejects.length === 0;
  fill(fields.class, "all", data.items.map((item) => item.class));
  fill(fields.split, "all", data.items.map((item) => item.split));
  fill(fields.remark, "all", data.items.flatMap((item) => item.kinds));
  fill(fields.reject, "all", data.rejects.map((reject) => reject.kind));

  form.addEventListener("submit", (event) => event.preventDefault());
  // Also of the one outside the form's tags, which belongs to it all the same.
  document.addEventListener("input", (event) => {
    if (event.target.form !== form) return;
    page = 0;
    rejectsShown = REJECTS;
    change();
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    history.replaceState(null, "", "#");
    readAddress();
  });
  get("previous").addEventListener("click", () => turn(-1));
  get("next").addEventListener("click", () => turn(1));
  get("more").addEventListener("click", () => {
    rejectsShown += REJECTS;
    show();
  });
  addEventListener("hashchange", readAddress);
  readAddress();
}
