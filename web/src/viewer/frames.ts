/** Frames as the node decodes them, for Cornerstone: no codec is needed in the browser. */
import { cache, Enums, imageLoader, metaData, type Types } from "@cornerstonejs/core";
import { get, request, urls, type Pixels } from "../api";

const SCHEME = "frame";
const CACHE_BYTES = 512 * 1024 * 1024;

const known = new Map<string, Pixels>();

export function imageId(uid: string, frame: number): string {
  return `${SCHEME}:${uid}/${frame}`;
}

export function register(): void {
  cache.setMaxCacheSize(CACHE_BYTES);
  imageLoader.registerImageLoader(SCHEME, (id: string) => ({ promise: load(id) }));
  metaData.addProvider(provide, 10_000);
}

async function load(id: string): Promise<Types.IImage> {
  const [uid = "", frame = "0"] = id.slice(SCHEME.length + 1).split("/");
  const pixels = known.get(uid) ?? (await get<Pixels>(urls.image(uid)));
  known.set(uid, pixels);
  const answer = await request(urls.frame(uid, Number(frame)));
  const content = await answer.arrayBuffer();
  const values = toValues(content, pixels);
  const { low, high } = range(values);
  const [rowSpacing, columnSpacing] = pixels.pixel_spacing ?? [1, 1];
  const color = pixels.channels === 3;
  const image = {
    imageId: id,
    minPixelValue: low,
    maxPixelValue: high,
    slope: 1,
    intercept: 0,
    windowCenter: color ? 128 : (pixels.window_center ?? (low + high) / 2),
    windowWidth: color ? 256 : (pixels.window_width ?? Math.max(1, high - low)),
    voiLUTFunction: Enums.VOILUTFunctionType.LINEAR,
    getPixelData: () => values,
    getCanvas: () => document.createElement("canvas"),
    rows: pixels.rows,
    columns: pixels.columns,
    height: pixels.rows,
    width: pixels.columns,
    color,
    rgba: color,
    numberOfComponents: color ? 4 : 1,
    columnPixelSpacing: columnSpacing,
    rowPixelSpacing: rowSpacing,
    invert: false,
    photometricInterpretation: color ? "RGB" : "MONOCHROME2",
    sizeInBytes: values.byteLength,
    dataType: values.constructor.name as Types.PixelDataTypedArrayString,
    imageFrame: {} as Types.IImageFrame,
  };
  return image;
}

function toValues(content: ArrayBuffer, pixels: Pixels): Uint8Array | Uint16Array {
  const count = pixels.rows * pixels.columns;
  if (content.byteLength !== (count * pixels.channels * pixels.bits) / 8) {
    throw new Error("a frame of another size than the node says");
  }
  if (pixels.channels === 1) return pixels.bits === 16 ? new Uint16Array(content) : new Uint8Array(content);
  const colours = pixels.bits === 16 ? new Uint16Array(content) : new Uint8Array(content);
  const shift = pixels.bits - 8;
  const values = new Uint8Array(4 * count);
  for (let at = 0; at < count; at += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      values[4 * at + channel] = (colours[3 * at + channel] ?? 0) >> shift;
    }
    values[4 * at + 3] = 255;
  }
  return values;
}

function range(values: Uint8Array | Uint16Array): { low: number; high: number } {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high };
}

function provide(type: string, id: string | string[]): unknown {
  if (typeof id !== "string" || !id.startsWith(`${SCHEME}:`)) return undefined;
  const uid = id.slice(SCHEME.length + 1).split("/")[0] ?? "";
  const pixels = known.get(uid);
  if (!pixels) return undefined;
  const [rowSpacing, columnSpacing] = pixels.pixel_spacing ?? [1, 1];
  const color = pixels.channels === 3;
  switch (type) {
    case "imagePlaneModule":
      // A radiograph has no place in the patient: one is invented that only serves to draw.
      return {
        frameOfReferenceUID: uid,
        rows: pixels.rows,
        columns: pixels.columns,
        imageOrientationPatient: [1, 0, 0, 0, 1, 0],
        rowCosines: [1, 0, 0],
        columnCosines: [0, 1, 0],
        imagePositionPatient: [0, 0, 0],
        pixelSpacing: [rowSpacing, columnSpacing],
        rowPixelSpacing: rowSpacing,
        columnPixelSpacing: columnSpacing,
        sliceThickness: 1,
        sliceLocation: 0,
      };
    case "imagePixelModule":
      return {
        samplesPerPixel: color ? 3 : 1,
        photometricInterpretation: color ? "RGB" : "MONOCHROME2",
        rows: pixels.rows,
        columns: pixels.columns,
        bitsAllocated: color ? 8 : pixels.bits,
        bitsStored: color ? 8 : pixels.bits,
        highBit: (color ? 8 : pixels.bits) - 1,
        pixelRepresentation: 0,
      };
    case "generalSeriesModule":
      return { modality: "DX", seriesInstanceUID: uid, seriesNumber: 1 };
    case "voiLutModule":
      return color || pixels.window_center === null
        ? undefined
        : { windowCenter: [pixels.window_center], windowWidth: [pixels.window_width] };
    default:
      return undefined;
  }
}
