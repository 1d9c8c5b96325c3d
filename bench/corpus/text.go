package corpus

import "strings"

// script is a language that courses are taught in: what texts of an event are made of.
type script struct {
	*Generator
	*language
}

type language struct {
	locale string
	weight int // of a hundred courses
	// words are separated by gap in a sentence, which ends with stop.
	gap, stop string
	words     []string
	names     []string
}

func tongue(locale string, weight int, gap, stop, words, names string) language {
	return language{locale, weight, gap, stop, strings.Fields(words), strings.Split(names, ",")}
}

var languages = [...]language{
	tongue("en-US", 62, " ", ". ", `about above across after again against almost along already also although always among analysis another
		answer argue around asks assignment because become before begin behavior believe below between biology both bring build calculate
		carbon case cause cells change chapter charge class clear close collect common compare complex concept conclude consider constant
		context cost course culture curve data decide define degree demand derive describe design detail develop different direct discuss
		distance divide draw during each early economy edge effect either element energy enough equal equation error even evidence evolve
		example exercise experiment explain express factor false feedback figure find first follow force form formula found fraction from
		function further general give graph great group growth heat history however human hypothesis idea image important include increase
		inside instead integral interest into isn't just kind know knowledge language large later learn lecture less level light likely limit
		line list little logic long lower make many market mass matter mean measure member memory method might model molecule momentum more
		most motion much must nature need never next nothing number object observe often only open order other outcome outside part pattern
		people percent perhaps period person place point policy possible power practice predict present pressure price probability problem
		process produce proof property protein prove question quite random rate rather ratio read reason recall reduce refer relation require
		research result review role rule same sample say scale science second section seem sense sequence series several shape should show
		side sign similar simple since single slope small social society solution some source space speak species speed stage standard state
		step still structure student study such suggest supply support surface system table take tell temperature term test text than theory
		there these they thing think those though through time today together total toward true turn type under understand unit until upon
		value variable vector velocity very view voice volume water wave we've when where whether which while whole whose why wide will with
		within without word work world would write wrong year yield you'll zero`,
		"Maria Alvarez,Jordan O'Neill,Priya Natarajan,Sean McDermott,Emily \"Em\" Clarke,DeShawn Harris,Anna Kowalski-Reed"),
	tongue("es-MX", 7, " ", ". ", `además ahora análisis aprender así átomo aunque años biología cálculo célula cómo conclusión cuándo debería
		después día ecuación ejercicio energía español están física función había hipótesis información integración lección límite lógica mañana
		máximo método mínimo niño número página párrafo pequeño porqué práctica próximo química razón respuesta según señal también teoría título
		último único válido vía ¿qué?`, "José Ángel Muñoz,Lucía Peña Ibáñez,Iñaki Echeverría"),
	tongue("de-DE", 4, " ", ". ", `Abschätzung ähnlich Ableitung Aufgabe außerdem Begründung Beispiel dafür Einführung Ergebnis erklärt erhöht Fläche
		für Gesetzmäßigkeit größer Größe heißt hört Kräfte können Lösung mögliche müssen nächste natürlich Prüfung Rückmeldung schließlich
		Schlüssel Übung überall Übersicht ungefähr Verhältnis während wäre Wärme zunächst zusätzlich`, "Jürgen Groß,Käthe Müller-Lüdenscheidt,Zoë Weiß"),
	tongue("fr-CA", 4, " ", ". ", `année après aujourd'hui bientôt ça capacité chaîne château complète côté déjà démontrer développer élève énoncé équation
		être étude événement évidence expérience façon français générale hypothèse idée intérêt là leçon lumière même modèle naïf où phénomène
		précédent première problème propriété réponse réseau résultat société système théorème très vérité voilà`, "Zoé Lefèvre,François Côté,Noël Bélanger"),
	tongue("pl-PL", 2, " ", ". ", `ćwiczenie błąd część będzie dłuższy działanie gęstość główny jeśli każdy książka który liczbę łączny można należy
		następny określić pamięć pochodną później pytań również różnica siły światło także tydzień układ więc współczynnik wynik związek źródło`,
		"Łukasz Wiśniewski,Małgorzata Żółć"),
	tongue("tr-TR", 2, " ", ". ", `açıklama ağırlık alıştırma başlangıç bölüm çalışma çözüm değer değişken doğru eğitim fonksiyonun geçiş gözlem güç
		hücre ısı için ilişki işlem karşı kısım küçük ölçü öğrenci önce örnek sınıf sınır sıcaklık şekil üzere yanıt yıl`, "Gülşen Öztürk,İsmail Çağlar"),
	tongue("ru-RU", 3, " ", ". ", `анализ больше время вопрос вывод график давление данные доказать другой если задача закон значение измерение история
		книга количество который лекция между метод можно наука несколько опыт ответ первый пример причина процесс равно развитие решение
		сила система скорость смысл студент теория точка уравнение учебник функция часть число энергия`, "Анна Сергеевна Волкова,Дмитрий Ёлкин"),
	tongue("el-GR", 1, " ", ". ", `ανάλυση άσκηση βιβλίο γιατί δεδομένα διαφορά ενέργεια εξίσωση ερώτηση θεωρία κεφάλαιο κίνηση λύση μάθημα μέθοδος νόμος
		όριο παράδειγμα πρόβλημα σημείο συνάρτηση σχέση τιμή ύλη φυσική χρόνος`, "Ελένη Παπαδοπούλου"),
	tongue("ar-EG", 3, " ", ". ", `الإجابة الأول البحث التاريخ التجربة التحليل الجزء الحرارة الحل الدرس الدالة الزمن السؤال السرعة الطاقة الطالب الفصل القوة
		القيمة الكتاب المثال المعادلة النتيجة النظرية بعد بين حتى ذلك عدد على كيف لماذا معنى نقطة هذا`, "فاطمة الزهراء حسن,محمد عبد الرحمن"),
	tongue("he-IL", 1, " ", ". ", `אנרגיה בעיה גרף דוגמה הוכחה זמן חוק חישוב טעות יחס כוח כלל למידה מדידה משוואה נקודה ספר ערך פתרון צורה קבוצה שאלה תוצאה`, "נועה בן־דוד"),
	tongue("hi-IN", 2, " ", "। ", `अध्ययन अभ्यास इतिहास उत्तर उदाहरण ऊर्जा कारण किताब क्यों गति गणित जीवन तापमान दूरी नियम परिणाम पाठ प्रश्न बल भाषा मान विज्ञान विश्लेषण समय समीकरण
		सिद्धांत`, "अनन्या शर्मा,विक्रम सिंह"),
	tongue("zh-CN", 4, "", "。", `作业 分析 历史 问题 因为 所以 函数 能量 方程 实验 学生 课程 老师 结果 理论 时间 速度 数据 图表 变化 关系 条件 社会 经济 文化 语言 细胞 结构 系统
		方法 证明 极限 导数 答案 例子 第三章 讨论 说明 重要`, "王小明,李娜,欧阳伟"),
	tongue("ja-JP", 2, "", "。", `課題 について 実験の 結果を 説明する 学生は 講義で 理論と 関数の グラフ エネルギー 時間 問題が ありません 第二章 考える データ 分析 しかし そして
		歴史的な 社会 細胞 レポート 提出 締め切り 復習 予習`, "山田 花子,佐藤 健"),
	tongue("ko-KR", 2, " ", ". ", `과제 실험 결과를 설명하는 학생은 강의에서 이론과 함수의 그래프 에너지 시간 문제가 없습니다 데이터 분석 그러나 그리고 역사 사회 세포 보고서 제출 복습`, "김민지,이서준"),
	tongue("th-TH", 1, "", " ", `การบ้าน วิเคราะห์ ประวัติศาสตร์ คำถาม เพราะ ฟังก์ชัน พลังงาน สมการ ทดลอง นักเรียน บทเรียน ผลลัพธ์ ทฤษฎี เวลา ความเร็ว ข้อมูล`, "สมชาย ใจดี"),
}

// asides stand in texts of any language.
var asides = [...]string{"🙂", "👩🏽‍🔬", "✅", "→", "“…”", "≥ 3 µm", "∑xᵢ²", "½", "№ 7", "(see p. 12)", "C:\\lab\\run", "\"sic\""}

var subjects = [...]string{"BIO", "CHEM", "PHYS", "MATH", "ECON", "HIST", "PSY", "SPAN", "CS", "ENGL", "NURS", "ACCT", "ARTH"}

var userAgents = [...]string{
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Safari/605.1.15",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (X11; CrOS x86_64 16093.57.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
	"Mozilla/5.0 (Linux; Android 16; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
	"Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
	"CampusApp/7.12.0 (iPad; iOS 18.6; build 7120)",
}

// script draws the language of a course.
func (g *Generator) script() *script {
	n := g.below(100)
	for i := range languages {
		if n -= languages[i].weight; n < 0 {
			return &script{g, &languages[i]}
		}
	}
	panic("corpus: weights of the languages are less than 100")
}

func (s *script) word() string { return oneOf(s.Generator, s.words...) }

func (s *script) name() string { return oneOf(s.Generator, s.names...) }

// title is a few words.
func (s *script) title() string { return s.phrase(2 + s.below(4)) }

func (s *script) phrase(words int) string {
	var b strings.Builder
	for i := range words {
		if i > 0 {
			b.WriteString(s.gap)
		}
		b.WriteString(s.word())
	}
	return b.String()
}

// sentences is a short text.
func (s *script) sentences(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(s.phrase(5 + s.below(12)))
		if s.chance(0.15) {
			b.WriteString(" " + oneOf(s.Generator, asides[:]...))
		}
		b.WriteString(s.stop)
	}
	return strings.TrimSpace(b.String())
}
