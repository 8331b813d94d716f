"""Frequent words, letters and forms of languages in Latin script, for `language.guess_language`.

The lists hold function words, and what stands beside a number: time, money, age, family, rooms, chapters. A word that
English has too stands in both lists.
"""

_WORDS = {
    "en": "the of and to in is that it for was with as his on be at by i this had not are but from or have an they "
    "which one you were all her she there would their we him been has when who will no more if out so said what "
    "up its about than into them can only other time new some could these two may first then do any like my now "
    "over such our me even most made after did many before must hello please thank thanks yes a it's don't i'm "
    "how where why your he am good morning does us very here see go get just know let hi bye ok okay each own "
    "too also back well way off through down should because much still between never last under while might "
    "same another again both people year years day days week weeks month months hour hours minute minutes "
    "second seconds man men woman women child children son sons life world house home room page chapter part "
    "number table size total price cost costs dollar dollars pound pounds percent degrees miles times three "
    "four five six seven eight nine ten hundred thousand million great old big small long high little right "
    "left next early late young few every per come came went gone take took taken make makes give gave given "
    "find found think thought say says tell told ask asked work works worked seem feel felt try tried leave "
    "call called need want wanted keep kept begin began show showed hear heard play played run ran move live "
    "lives lived believe hold held bring brought write wrote read stand stood lose lost pay paid meet met buy "
    "bought sell sold eat ate open opens opened close win wins won having being wasn't isn't aren't didn't "
    "doesn't won't can't i've i'll you're that's there's what's let's he's add wait dial jump hit hits hat war "
    "die bin pour chat main pain car sale visit visited born street city town school state family group country "
    "problem hand place case point company government night money story water mother father area book eye job "
    "word business issue side kind head friend power game end law name team idea body face door pm north south "
    "east west red green blue white black speed flight train bus road king queen café résumé naïve cliché "
    "façade fiancé fiancée déjà vu vis entrée soirée décor piñata jalapeño über señor set use used using start "
    "starts started stop stops turn turned put got look looked help talk love better best sure enough really "
    "always often today tomorrow yesterday ago since until during without within against among around above "
    "below near along across behind toward upon mr mrs ms dr st figure section version act score scores sales "
    "season rule split half chance value date due meeting phone report op vol nos copyright fig pp note notes "
    "file files text image images class client list string object code data user test error line lines type "
    "change changes release support fix fixed free single full fresh special local final simple complete ready "
    "return returns delete remove create update install upload download send receive check save load store "
    "contain include provide require allow follow learn watch wear fly drive walk wake sing sit sleep stay "
    "speak spend teach travel understand wish wonder food music film movie boy girl baby dog cat tree river sea "
    "fire air land sky sun moon star space hotel office doctor teacher student market heart mind voice sound "
    "letter computer picture paper window chair bed garden kitchen evening afternoon summer winter spring "
    "autumn fall monday tuesday wednesday thursday friday saturday sunday january february march april june "
    "july august september october november december beautiful happy sad cold hot warm hard easy fast slow "
    "strong true false different important possible together almost already later soon",
    "de": "der das und ist nicht ein eine einen einem einer mit auf für ich sie wir zu im von auch wie sich dem den "
    "es bei nach sind wird haben hallo welt guten tag tage tagen morgen danke bitte sehr über aber oder heute "
    "dass kann hat wenn die er ihr mich mir dich dir uns euch ihm ihn mein meine meinen dein unser kein keine "
    "noch nur schon mehr als um am an aus bis durch gegen ohne unter vor zum zur vom beim war waren wurde "
    "wurden werden habe hast bin bist sein seine seiner ihre was wer wo wann warum jetzt hier dort dann immer "
    "nie alle alles viel viele kommt kommen geht gehen gibt macht kostet kosten wohne wohnt heißt treffen fährt "
    "ab uhr jahr jahre jahren alt woche wochen monat monate stunde stunden minuten sekunden euro grad prozent "
    "kinder kind frau herr bruder schwester mutter vater haus zimmer stock seite kapitel teil zug geboren "
    "nächste letzte neue zwei drei vier fünf sechs sieben acht neun zehn hundert tausend gestern abend nacht "
    "los ja nein",
    "fr": "le la les des du et est une un dans pour pas que qui sur avec vous nous je il elle ne au ce cette mais "
    "bonjour monde merci être très c'est d'un d'une j'ai où aujourd'hui ça sont plus tout comme de à a en y on "
    "ont avons avez suis sommes êtes était ils elles leur leurs mon ma mes ton ta tes son sa ses notre nos "
    "votre vos aux par se si ou donc car quand comment pourquoi quoi rien jamais toujours encore déjà aussi "
    "bien peu trop sans sous chez entre avant après depuis pendant jusqu'à fait faire va vais part arrive coûte "
    "coûtent cela habite rendez- vous achète vient mange prend gagné ans an année années jour jours semaine "
    "semaines mois heure heures minutes secondes euros degrés enfants enfant femme homme frère sœur mère père "
    "maison chambre étage page chapitre partie train rue né née deux trois quatre cinq six sept huit neuf dix "
    "cent mille demain hier soir matin nuit oui non s'il l'heure qu'il n'est m'appelle voici voilà",
    "es": "el la los las y es un una en de del que por para con no se su al lo como más pero hola mundo gracias "
    "buenos días está muy cómo yo qué mi son hoy este esta a tengo tiene tienes tenemos tienen tener hay ser "
    "era fue han ha he hemos soy eres somos estoy están estamos ir voy va vamos van hace hacer hizo quiero "
    "quiere puede puedo vivo vive nació compró cuesta cuestan sale llega empieza faltan falta dice dijo me te "
    "nos les le sus mis tu tus nuestro nuestra ella ellos usted ustedes ya si sí sin sobre entre hasta desde "
    "cuando donde dónde cuándo porque también solo sólo nunca siempre todo todos toda nada algo otro otra hijos "
    "hijo hija hermano hermana madre padre casa piso página capítulo parte tren clase año años mes meses semana "
    "semanas día hora horas minutos segundos euros grados personas niños cafés huevos dos tres cuatro cinco "
    "seis siete ocho nueve diez cien mil mañana ayer noche tarde favor señor señora buenas uno bien",
    "it": "il la gli le lo i di che è un una uno per con non si del della dello dei delle degli sono ciao mondo "
    "grazie molto questo questa come anche oggi buongiorno ma io più nel nella alla al allo alle ai ho hai ha "
    "abbiamo avete hanno sei siamo siete era erano essere avere fa fare faccio vado va viene vengo vorrei "
    "voglio vuole può posso devo parte arriva costa costano mancano manca nato nata vediamo abito abita "
    "comprato e o se in da dal dalla su sul sulla tra fra a mio mia miei mie tuo tua suo sua nostro loro lui "
    "lei noi voi chi cosa quando dove perché quanto ancora già sempre mai solo tutto tutti niente qui qua là "
    "poi ora adesso treno casa stanze stanza piano pagina capitolo figli figlio figlia fratello sorella madre "
    "padre anni anno mese mesi settimana settimane giorno giorni ore minuti secondi euro gradi persone bambini "
    "uova caffè due tre quattro cinque sette otto nove dieci cento mille domani ieri sera notte mattina prego "
    "signor signora sì ci",
    "pt": "o a os as um uma de do da dos das que não é e para com por em no na nos nas se mais como mas olá mundo "
    "obrigado obrigada bom dia muito está eu você isso são hoje ao à às aos ele ela eles nós me te lhe meu "
    "minha meus seu sua seus nosso tenho tem temos têm ter há ser era foi sou somos estou estamos ir vou vai "
    "vamos fazer faz quero quer pode posso moro mora nasceu comprei comprou custa custam sai chega começa "
    "faltam falta diz disse já sim sem sobre entre até desde quando onde porque também só nunca sempre tudo "
    "todos nada outro outra filhos filho filha irmão irmã mãe pai casa andar página capítulo parte trem comboio "
    "aula ano anos mês meses semana semanas dias hora horas minutos segundos euros reais graus pessoas crianças "
    "cafés ovos dois duas três quatro cinco seis sete oito nove dez cem mil amanhã ontem noite tarde favor "
    "senhor senhora boa",
    "nl": "de het een en van is niet dat op te zijn met voor ik je hij wij ook maar als aan er hallo wereld dank "
    "goede morgen heel wat naar bij deze we ze zij jij jullie u mij me hem haar ons hun mijn jouw uw onze dit "
    "die daar hier heb hebt heeft hebben had ben bent was waren wordt werd worden kan kunnen wil willen moet "
    "moeten gaat gaan komt komen kost kosten vertrekt woon woont koopt kocht geboren geen nog al over uit door "
    "om tot in onder tussen zonder wie waar wanneer waarom hoe nu dan altijd nooit alles veel meer trein huis "
    "kamer verdieping bladzijde hoofdstuk deel kinderen kind broer zus moeder vader honden eieren jaar jaren "
    "maand maanden week weken dag dagen uur minuten seconden euro graden mensen twee drie vier vijf zes zeven "
    "acht negen tien honderd duizend gisteren vandaag avond nacht ja nee graag alstublieft mevrouw meneer",
    "pl": "i w nie na się jest to z że do jak ale za co tak dzień dobry świat cześć dziękuję ja ty jego dla są on ona "
    "ono my wy oni one mój moja moje twój jej ich nas nam was mnie mi ci go ją o u po przed przez pod nad od "
    "bez przy a czy kto gdzie kiedy dlaczego tylko już jeszcze też zawsze nigdy wszystko bardzo tu tam teraz "
    "potem mam masz ma mamy macie mają jestem jesteś jesteśmy był była było były być będzie będę może mogę chcę "
    "kosztuje kosztują urodził urodziła mieszkam mieszka kupiłem kupiła zostało odjeżdża przyjeżdża spotkanie "
    "proszę pociąg dom pokój piętrze piętro strona rozdział część dzieci dziecko brat siostra matka ojciec lat "
    "lata rok roku miesiąc miesiące tydzień tygodnie dni godzina godziny godzin minut minuty sekund euro "
    "złotych złote stopni osób ludzi kawy jajek dwa dwie trzy cztery pięć sześć siedem osiem dziewięć dziesięć "
    "sto tysiąc jutro wczoraj dziś wieczorem rano pan pani",
    "sv": "och att det är som en på jag inte av för med han den till har du hej världen tack mycket ett vi var i om "
    "hon de ni mig dig oss min mitt mina din sin så men eller när vad vem hur varför här där nu alla allt barn "
    "år månader veckor dagar timmar minuter kostar går kommer klockan tåget kronor grader bor heter två tre "
    "fyra fem sex sju åtta nio tio idag imorgon igår",
    "da": "og at det er som en på jeg ikke af for med han den til har du hej verden tak meget et vi var i om hun de "
    "mig dig os min mit mine din så men eller når hvad hvem hvor hvorfor her der nu alle alt børn år måneder "
    "uger dage timer minutter koster går kommer klokken toget kroner grader bor hedder to tre fire fem seks syv "
    "otte ni ti også",
    "no": "og at det er som en på jeg ikke av for med han den til har du hei verden takk mye et vi var i om hun de "
    "meg deg oss min mitt mine din så men eller når hva hvem hvor hvorfor her der nå alle alt barn år måneder "
    "uker dager timer minutter koster går kommer klokken toget kroner grader bor heter to tre fire fem seks sju "
    "åtte ni ti også",
    "fi": "ja on ei se että en hän minä sinä me te he oli ovat olen olet olemme mutta kun niin kuin myös vain nyt "
    "tämä minulla sinulla hänellä kello kellon euroa vuotta vuosi vuonna päivää viikkoa tuntia minuuttia "
    "astetta lasta lapset hei kiitos maailma juna lähtee maksaa asun talo kaksi kolme neljä viisi kuusi "
    "seitsemän kahdeksan yhdeksän",
    "hu": "a az és nem egy van hogy is én te ő mi ti ők ez azt ezt de ha már még csak nagyon itt ott most volt lesz "
    "vagyok vannak gyerekem gyerek éves év évben nap hét hónap óra órakor perc euró forint fok vonat indul szia "
    "köszönöm világ két három négy öt hat nyolc kilenc tíz",
    "ro": "și si este în un o de la cu pe nu că ce care din pentru mai sunt am ai are avem aveți au era fost fi să se "
    "eu tu el ea noi voi ei meu mea dar sau când unde cum copii ani an zile zi ore ora minute lei euro grade "
    "trenul pleacă costă bună ziua mulțumesc lume doi două trei patru cinci șase șapte opt nouă zece",
    "cs": "a je to se na v že s z do ne ale jak tak co za pro by si o ve po od už jen také dnes zítra včera já ty on "
    "ona my vy oni mám máš má máme mají jsem jsi jsme jsou byl byla bylo být dobrý den děkuji svět ahoj děti "
    "dítě rok roky let leta roku měsíc týden dní dny hodin hodiny minut korun euro stupňů vlak odjíždí stojí "
    "bydlím ledna února března dubna května června července srpna září října listopadu prosince dva tři čtyři "
    "pět šest sedm osm devět",
    "tr": "bir ve bu da de için ne çok o ile gibi ben sen merhaba dünya teşekkürler değil var yok güzel bugün yarın "
    "dün saat dakika gün hafta ay yıl yaşında yaşındayım lira euro derece çocuk çocuğum kişi tren kalkıyor iki "
    "üç dört beş altı yedi sekiz dokuz on yüz bin evet hayır",
    "vi": "là và của không có một tôi bạn được người này cho trong đã xin chào cảm ơn thế giới rất hôm nay ngày tháng "
    "năm giờ phút tuổi con hai ba bốn sáu bảy tám chín mười",
    "id": "yang dan di ini itu tidak untuk dengan saya anda ada dari akan halo dunia terima kasih selamat pagi ke "
    "pada juga sudah belum bisa kami kita mereka dia punya anak tahun bulan minggu hari jam menit rupiah euro "
    "derajat orang harga harganya berangkat kereta rumah dua tiga empat lima enam tujuh delapan sembilan "
    "sepuluh besok kemarin",
}
WORDS = {code: frozenset(words.split()) for code, words in _WORDS.items()}

# Parts of names: "Rio de Janeiro", "Los Angeles", "Van Gogh".
_PARTICLES = "de la le les el los las da di do du del della den der van von san santa"
PARTICLES = frozenset(_PARTICLES.split())

# Letters beyond a to z.
LETTERS = {
    "de": "äöüß", "fr": "àâæçéèêëîïôœùûüÿ", "es": "áéíñóúü", "it": "àèéìòù", "pt": "ãáâàçéêíóôõú", "nl": "éëïóö",
    "pl": "ąćęłńóśźż", "sv": "åäöé", "da": "æøå", "no": "æøå", "fi": "äöå", "hu": "áéíóöőúüű", "ro": "ăâîșțşţ",
    "cs": "áčďéěíňóřšťúůýž", "tr": "çğıöşüâî",
    "vi": "àáâãèéêìíòóôõùúýăđĩũơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
}  # fmt: skip

# Parts and endings that are frequent in a language and rare in English, for words of no list.
FORMS = {
    "de": ".*(?:sch|tz|pf|ung|lich|keit|heit|eit|icht|acht).*|ge.{2,}t|.{2,}[gklmnprst]en|.{2,}(?:nk|nn|mm|hr|ss)t",
    "fr": ".{2,}(?:eux|eaux?|aux|ment|oire|euse|ique|elle|ette|ez|ons|ent|ie|ue)|[ldjmnstc]'.{2,}|qu'.{2,}",
    "es": ".{2,}(?:ado|ido|ando|iendo|aje|illa|illo|dad|mente|amos|emos|aron|eron|iones)"
    "|.*(?:rr|ue[bclnrst]).*|.{2,}[ao]s?",
    "it": ".{2,}(?:ato|ito|zione|zioni|mente|iamo|ere|are|ire|etto|etta|[aio])|.*(?:zz|cch|ggi|gli|tt[aeio]).*|l'.{2,}",
    "pt": ".{2,}(?:ado|ido|ando|endo|agem|dade|mente|amos|emos|aram|eram)|.*(?:nh[ao]|lh[aeo]|ou).*|.{2,}[ao]s?",
    "nl": ".*(?:aa|uu|ij|oe|ui|eeu|ouw|sch|gt).*|.{2,}[dgklmnprstvz]en|.{2,}(?:nk|mm|ll)t",
    "pl": ".*(?:sz|cz|rz|dz|wy|yj|[wjk]i|ej|ych|owa).*|.{3,}(?:y|ie)",
}
