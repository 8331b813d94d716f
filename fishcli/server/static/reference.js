// The reference below the panel: Swagger UI over openapi.json, with a player for sound.
"use strict";

/** Show an answer that is sound with a player. Swagger UI's own asks for the address again, with a GET. */
function withSound(Original, { React }) {
  return function ResponseBody(props) {
    const { content, contentType = "" } = props;
    const sound = content instanceof Blob && contentType.startsWith("audio/") ? content : null;
    const [url, setUrl] = React.useState(null);
    React.useEffect(() => {
      const made = sound && URL.createObjectURL(sound);
      setUrl(made);
      return () => made && URL.revokeObjectURL(made);
    }, [sound]);
    if (!sound) return React.createElement(Original, props);
    const download = `speech.${contentType.split(/[/;]/)[1].replace("mpeg", "mp3")}`;
    return React.createElement(
      "div",
      { className: "sound" },
      url && new Audio().canPlayType(contentType) && React.createElement("audio", { controls: true, src: url, "aria-label": "The answer" }),
      url && React.createElement("a", { href: url, download }, "Save the sound"),
    );
  };
}

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  validatorUrl: null, // nothing leaves this server
  displayRequestDuration: true,
  defaultModelsExpandDepth: -1,
  plugins: [() => ({ wrapComponents: { responseBody: withSound } })],
  requestInterceptor: (request) => {
    const key = document.getElementById("key").value;
    if (key) request.headers.Authorization ??= `Bearer ${key}`;
    return request;
  },
});

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
