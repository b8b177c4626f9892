// Pictures to mix: of the gallery, or of the user's own files, clipboard, camera and pen.

import { ask } from "./api.js";

/** Bytes up to which a file is sent as it is; it is sent again with each change of a slider. */
const SENT_WHOLE = 1_000_000;
let made = 0;
const gallery = new Map();

/** A picture of the gallery; `url` is there once `preview` has loaded it. */
export function galleryPicture(id) {
  if (!gallery.has(id)) gallery.set(id, { key: `gallery:${id}`, id, name: id, url: null });
  return gallery.get(id);
}

/** Load what shows a picture of the gallery: by a request, because an `img` cannot send a token. */
export async function preview(picture) {
  picture.loading ??= ask(`gallery/${encodeURIComponent(picture.id)}`)
    .then((response) => response.blob())
    .then((blob) => (picture.url = URL.createObjectURL(blob)))
    .catch((error) => {
      picture.loading = null;
      throw error;
    });
  await picture.loading;
}

/** Whether a file is made smaller first, which takes seconds on a phone. */
export const isLarge = (file) => file.size > SENT_WHOLE;

/**
 * A picture of a file. One above a megabyte is made smaller here, by far not as small as the model
 * paints; one that this browser cannot read is sent as it is, and the server says what it is.
 * @throws {Error} with a line for the user, if it is more than the server takes
 */
export async function ownPicture(file, about, name = file.name) {
  const blob = isLarge(file) ? await smaller(file, 4 * about.image_size) : file;
  const most = about.limits.picture_bytes;
  if (blob.size > most) {
    throw new Error(`${name} has ${megabytes(blob.size)} MB: the server takes up to ${megabytes(most)} MB.`);
  }
  made += 1;
  return { key: `own:${made}`, blob, name, url: URL.createObjectURL(blob) };
}

/**
 * Have the browser forget a picture of the user's own, unless a slot still has it.
 * @param {object | null} picture any picture; those of the gallery are kept
 * @param {object} slots the pictures by slot
 */
export function release(picture, slots) {
  if (picture?.blob && !Object.values(slots).includes(picture)) URL.revokeObjectURL(picture.url);
}

async function smaller(file, least) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return file;
  }
  const share = Math.min(1, Math.max(512, least) / Math.min(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(share * bitmap.width);
  canvas.height = Math.round(share * bitmap.height);
  const pen = canvas.getContext("2d");
  // Transparent parts are white for the model, too.
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
}

/** Bytes in the unit of messages. */
export const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/** The picture file of what was dropped or pasted, or null. */
export function fileOf(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/")) ?? files[0] ?? null;
}
