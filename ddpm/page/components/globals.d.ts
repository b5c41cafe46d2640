// What scripts find on the page: Plotly, Gradio's config, and what Gradio's events call of the player.
declare const Plotly: any;

interface Window {
  Plotly?: any;
  gradio_config: { root: string; current_page: string };
  ddpm?: { changed: (query: object) => void; choose: (layers: object) => void };
}

// What Gradio gives the script of a component, and, in place of watch, the page gives a screen: hear, which hands a function
// each value of the component.
interface Gradio {
  element: any;
  props: any;
  trigger: (event: string, data?: object) => void;
  watch?: (props: string | string[], changed: () => void) => void;
  hear?: (receive: (value: string) => void) => void;
}

type Clock = import("./clock.js").Clock;
type LessonScreen = import("./clock.js").LessonScreen;
