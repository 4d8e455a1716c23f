import { useEffect, useRef, useState } from "preact/hooks";
import { request, urls, type ImageReading, type StudyImage } from "../api";
import { useKeys } from "../hooks";
import { say } from "../words/language";
import type { Viewer } from "../viewer/viewer";

interface Props {
  images: StudyImage[];
  resultId: number | null;
  readings: ImageReading[];
}

interface Place {
  image: StudyImage;
  frame: number;
}

/** Hold what a reader chose while studies are changed. */
let heatShown = true;
let outlineShown = true;
let opacityChosen = 0.5;

export function Radiograph(props: Props) {
  const places = listPlaces(props.images, props.readings);
  const [at, setAt] = useState(0);
  const [heat, setHeat] = useState(heatShown);
  const [outline, setOutline] = useState(outlineShown);
  const [opacity, setOpacity] = useState(opacityChosen);
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(true);
  const [coloured, setColoured] = useState<HTMLCanvasElement | null>(null);
  const viewer = useRef<Viewer | null>(null);
  const element = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);

  const place = places[Math.min(at, places.length - 1)] ?? null;
  const uid = place?.image.sop_instance_uid ?? null;
  const frame = place?.frame ?? 0;
  const available = place?.image.available ?? false;
  const reading = props.readings.find((one) => one.sop_instance_uid === uid && one.frame === frame) ?? null;
  const hasHeat = props.resultId !== null && reading !== null && reading.heat_map !== null;

  // The viewer's own code is large: it is fetched when a radiograph is shown for the first time.
  useEffect(() => {
    let left = false;
    setProblem("");
    setBusy(true);
    if (!uid || !available) {
      setBusy(false);
      return undefined;
    }
    void (async () => {
      try {
        const { Viewer } = await import("../viewer/viewer");
        if (left || !element.current || !canvas.current) return;
        viewer.current ??= new Viewer(element.current, canvas.current);
        if ((await viewer.current.show(uid, frame)) && !left) setBusy(false);
      } catch (error) {
        if (!left) {
          console.error(error);
          setProblem(say("imageFailed"));
          setBusy(false);
        }
      }
    })();
    return () => {
      left = true;
    };
  }, [uid, frame, available]);
  useEffect(
    () => () => {
      viewer.current?.destroy();
      viewer.current = null;
    },
    [],
  );

  useEffect(() => {
    let left = false;
    setColoured(null);
    if (!hasHeat || !uid || props.resultId === null) return undefined;
    const path = urls.heatMap(props.resultId, uid, frame);
    void (async () => {
      try {
        const { colour } = await import("../viewer/overlay");
        const answer = await request(path);
        const picture = await createImageBitmap(await answer.blob());
        if (!left) setColoured(colour(picture));
      } catch {
        // Shown as no heat map: the radiograph is worth seeing without.
      }
    })();
    return () => {
      left = true;
    };
  }, [hasHeat, uid, frame, props.resultId]);

  useEffect(() => {
    if (busy) return;
    viewer.current?.setOverlay({
      heat: heat ? coloured : null,
      opacity,
      outline: outline ? (reading?.region?.points ?? null) : null,
      rows: reading?.rows ?? place?.image.rows ?? 1,
      columns: reading?.columns ?? place?.image.columns ?? 1,
    });
  }, [busy, heat, outline, opacity, coloured, reading, place]);

  const toggleHeat = () => setHeat((heatShown = !heat));
  const toggleOutline = () => setOutline((outlineShown = !outline));
  const step = (by: number) => setAt(Math.min(places.length - 1, Math.max(0, at + by)));
  useKeys({
    i: () => viewer.current?.invert(),
    r: () => viewer.current?.reset(),
    h: toggleHeat,
    o: toggleOutline,
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
  });

  return (
    <section class="radiograph" aria-label={say("imageOf")}>
      <div class="tools">
        <button type="button" onClick={() => viewer.current?.invert()}>
          {say("invert")} <kbd>i</kbd>
        </button>
        <button type="button" onClick={() => viewer.current?.reset()}>
          {say("reset")} <kbd>r</kbd>
        </button>
        <button type="button" aria-pressed={heat} disabled={!coloured} onClick={toggleHeat}>
          {say("heatMap")} <kbd>h</kbd>
        </button>
        <label class="opacity">
          <span class="hidden">{say("opacity")}</span>
          <input
            type="range"
            min="0"
            max="1"
            step="0.05"
            value={opacity}
            disabled={!coloured || !heat}
            onInput={(event) => setOpacity((opacityChosen = Number(event.currentTarget.value)))}
          />
        </label>
        <button type="button" aria-pressed={outline} disabled={!reading?.region} onClick={toggleOutline}>
          {say("outline")} <kbd>o</kbd>
        </button>
        {reading && !hasHeat && <span class="quiet">{say("noHeatMap")}</span>}
        {places.length > 1 && (
          <span class="places" role="group" aria-label={say("image")}>
            <button type="button" aria-label="←" disabled={at === 0} onClick={() => step(-1)}>
              ‹
            </button>
            <span>
              {say("image")} {at + 1} / {places.length}
            </span>
            <button type="button" aria-label="→" disabled={at >= places.length - 1} onClick={() => step(1)}>
              ›
            </button>
          </span>
        )}
      </div>
      <div class="frame" data-busy={busy} data-heat={heat && coloured !== null}>
        <div class="viewport" ref={element} />
        <canvas class="overlay" ref={canvas} />
        {busy && <p class="message">{say("loading")}</p>}
        {problem && (
          <p class="message problem" role="alert">
            {problem}
          </p>
        )}
        {place && !available && <p class="message">{say("notAvailable")}</p>}
        {!place && <p class="message">{say("noImages")}</p>}
        <p class="stamp">{say("notVerified")}</p>
      </div>
    </section>
  );
}

/** All frames, those that were read first and in the reading's order: the one that says most is seen first. */
function listPlaces(images: StudyImage[], readings: ImageReading[]): Place[] {
  const byUid = new Map(images.map((image) => [image.sop_instance_uid, image]));
  const places: Place[] = [];
  const taken = new Set<string>();
  const add = (image: StudyImage, frame: number) => {
    const key = `${image.sop_instance_uid}/${frame}`;
    if (!taken.has(key)) places.push({ image, frame });
    taken.add(key);
  };
  for (const reading of readings) {
    const image = byUid.get(reading.sop_instance_uid);
    if (image) add(image, reading.frame);
  }
  for (const image of images) {
    for (let frame = 0; frame < (image.frames ?? 1); frame += 1) add(image, frame);
  }
  return places;
}
