// npm's fish-audio against a server: node fish.mjs URL KEY FOLDER. Writes sound to the folder, and what happened as JSON.
import { createReadStream } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { FishAudioClient, RealtimeEvents } from "fish-audio";

const [baseUrl, apiKey, folder] = process.argv.slice(2);
const client = new FishAudioClient({ baseUrl, apiKey });
const told = { events: [], pieces: 0 };

async function save(name, stream) {
    const pieces = [];
    for await (const piece of stream) pieces.push(Buffer.from(piece));
    await writeFile(`${folder}/${name}.mp3`, Buffer.concat(pieces));
}

async function* texts() {
    yield "Good ";
    yield "morning.";
}

function live(request) {
    return new Promise(async (resolve) => {
        const pieces = [];
        const connection = await client.textToSpeech.convertRealtime({ text: "", format: "mp3", ...request }, texts());
        const end = (error) => {
            connection.off(RealtimeEvents.CLOSE, closed);
            connection.close();
            resolve({ error, sound: Buffer.concat(pieces) });
        };
        const closed = () => {
            told.events.push("close");
            end();
        };
        connection.on(RealtimeEvents.OPEN, () => told.events.push("open"));
        connection.on(RealtimeEvents.AUDIO_CHUNK, (piece) => {
            told.pieces += 1;
            pieces.push(Buffer.from(piece));
        });
        connection.on(RealtimeEvents.ERROR, (error) => end(error.message));
        connection.on(RealtimeEvents.CLOSE, closed);
    });
}

await save("whole", await client.textToSpeech.convert({ text: "Hello.", format: "mp3" }));

const voice = await client.voices.ivc.create({
    title: "Fox", voices: [createReadStream(`${folder}/voice.wav`)], texts: ["The quick brown fox"],
});
await client.voices.update(voice._id, { title: "Dog" });
told.title = (await client.voices.get(voice._id)).title;
told.total = (await client.voices.search({ title: "Dog" })).total;
const audio = new File([await readFile(`${folder}/voice.wav`)], "voice.wav");
const cloned = { text: "Hello.", format: "mp3", references: [{ audio, text: "The quick brown fox" }] };
await save("cloned", await client.textToSpeech.convert(cloned));
await client.voices.delete(voice._id);
told.left = (await client.voices.search()).total;

try {
    await client.textToSpeech.convert({ text: "Hello.", reference_id: "nobody" });
} catch (error) {
    told.status = error.statusCode;
    told.body = error.body;
}

await writeFile(`${folder}/live.mp3`, (await live({})).sound);
const seen = told.events.length;
told.liveError = (await live({ reference_id: "nobody" })).error;
told.events.length = seen;
console.log(JSON.stringify(told));
