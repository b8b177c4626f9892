// The paper to draw a shape on: strokes, of which the last can be undone.

const get = (id) => document.getElementById(id);
const INK = "#111";
const PAPER = "#fff";

/**
 * Make the paper.
 * @param {(drawing: Blob | null) => void} drawn after each stroke; null when the paper is empty
 * @param {(file: File) => void} chosen a drawing of a file instead
 * @returns {{toggle: () => boolean, forget: () => void}} show or hide it; wipe it without a word
 */
export function makeSketch(drawn, chosen) {
  const section = get("sketch");
  const canvas = section.querySelector("canvas");
  const pen = canvas.getContext("2d");
  let strokes = [];
  let stroke = null;
  let told = 0;

  function paint() {
    pen.fillStyle = PAPER;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.lineCap = "round";
    pen.lineJoin = "round";
    for (const { tool, width, points } of strokes) {
      pen.strokeStyle = tool === "pen" ? INK : PAPER;
      pen.lineWidth = width;
      pen.beginPath();
      pen.moveTo(...points[0]);
      // A line to where it is makes a dot of a click.
      for (const point of points) pen.lineTo(...point);
      pen.stroke();
    }
    get("undo").disabled = strokes.length === 0;
    get("wipe").disabled = strokes.length === 0;
  }

  function change(left) {
    strokes = left;
    paint();
    tell();
  }

  function tell() {
    told += 1;
    const now = told;
    if (!strokes.some(({ tool }) => tool === "pen")) drawn(null);
    else canvas.toBlob((blob) => now === told && drawn(blob), "image/png");
  }

  function at(event) {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || stroke) return;
    canvas.setPointerCapture(event.pointerId);
    const tool = section.querySelector("[name=tool]:checked").value;
    stroke = { tool, width: Number(get("brush").value), points: [at(event)], pointer: event.pointerId };
    strokes.push(stroke);
    paint();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== stroke?.pointer) return;
    // A fast pen moves several times between two frames.
    const moves = event.getCoalescedEvents?.() ?? [];
    for (const move of moves.length ? moves : [event]) stroke.points.push(at(move));
    paint();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      if (event.pointerId !== stroke?.pointer) return;
      stroke = null;
      tell();
    });
  }
  get("undo").addEventListener("click", () => change(strokes.slice(0, -1)));
  get("wipe").addEventListener("click", () => change([]));
  get("drawing").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) chosen(file);
    event.target.value = "";
  });
  paint();

  return {
    toggle() {
      section.hidden = !section.hidden;
      if (!section.hidden) get("sketch-title").focus();
      return !section.hidden;
    },
    forget() {
      told += 1;
      strokes = [];
      paint();
    },
  };
}
