import { useEffect, useRef } from "preact/hooks";
import type { Words } from "../words/en";
import { say } from "../words/language";

const KEYS: [string, keyof Words][] = [
  ["a", "keyAgree"],
  ["d", "keyDisagree"],
  ["c 1 2 …", "keyCorrect"],
  ["n", "keyNext"],
  ["p", "keyPrevious"],
  ["i", "keyInvert"],
  ["r", "keyReset"],
  ["h", "keyHeat"],
  ["o", "keyOutline"],
  ["← →", "keyImages"],
  ["?", "keyHelp"],
];
const MOUSE: [keyof Words, keyof Words][] = [
  ["mouseLeft", "mouseWindow"],
  ["mouseMiddle", "mousePan"],
  ["mouseWheel", "mouseZoom"],
];

export function KeysHelp(props: { close: () => void }) {
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => button.current?.focus(), []);
  return (
    <div class="help" role="dialog" aria-modal="true" aria-label={say("keysTitle")}>
      <h2>{say("keysTitle")}</h2>
      <dl>
        {KEYS.map(([key, words]) => (
          <div key={key}>
            <dt>
              {key.split(" ").map((one) => (
                <kbd key={one}>{one}</kbd>
              ))}
            </dt>
            <dd>{say(words)}</dd>
          </div>
        ))}
        {MOUSE.map(([what, words]) => (
          <div key={what}>
            <dt>{say(what)}</dt>
            <dd>{say(words)}</dd>
          </div>
        ))}
      </dl>
      <button type="button" ref={button} class="primary" onClick={props.close}>
        {say("close")}
      </button>
    </div>
  );
}
