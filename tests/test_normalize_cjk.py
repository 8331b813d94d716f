"""Chinese and Japanese: what `wetext` reads as a quantity or a subtraction is mended."""

import time

import pytest

from fishcli.text import normalize

pytest.importorskip("wetext", reason="the extra `normalize` is not installed")

CHINESE = {
    "a hyphen after a letter": {
        "GPT-4发布了新功能。": "GPT四发布了新功能。",
        "COVID-19疫情": "COVID十九疫情",
        "F-16战机和歼-20": "F十六战机和歼二十",
    },
    "a minus": {"今天-5度": "今天负五度", "5-3=2": "五减三等于二", "5-3等于2": "五减三等于二"},
    "scores": {
        "比分是2-1。": "比分是二比一。",
        "他们以3-0战胜对手": "他们以三比零战胜对手",
        "3-0获胜": "三比零获胜",
        "以2:1获胜": "以二比一获胜",
    },
    "spans": {
        "2024-2025学年开始了。": "二零二四到二零二五学年开始了。",
        "2021-2022年": "二零二一到二零二二年",
        "1999-2099元": "一千九百九十九到两千零九十九元",
        "3－5天": "三到五天",
        "第1-3章": "第一到三章",
        "增长10-15%": "增长百分之十到百分之十五",
        "2-3次": "二到三次",
        "20~30人": "二十到三十人",
    },
    "planes": {"他坐波音737-800。": "他坐波音七三七八零零。", "波音747和空客A380": "波音七四七和空客A三八零"},
    "telephone and other numbers": {
        "请问电话号码是13882366638对吗": "请问电话号码是幺三八八二三六六六三八对吗",
        "打138-1234-5678吧": "打幺三八幺二三四五六七八吧",
        "+86-13812345678": "加八六幺三八幺二三四五六七八",
        "拨打110": "拨打幺幺零",
        "QQ号12345678": "QQ号幺二三四五六七八",
        "身份证号110101199003071234": "身份证号幺幺零幺零幺幺九九零零三零七幺二三四",
        "11010119900307123X": "幺幺零幺零幺幺九九零零三零七幺二三X",
        "邮编是100084。": "邮编是幺零零零八四。",
        "邮政编码：200030": "邮政编码：二零零零三零",
        "验证码：8848。": "验证码：八八四八。",
        "手机2000元，电话费100元": "手机两千元，电话费一百元",
        "拨3个电话，密码6位": "拨三个电话，密码六位",
    },
    "rooms": {
        "他住在3栋2单元501室。": "他住在三栋二单元五零一室。",
        "8-501室": "八杠五零一室",
        "302房间有100间房": "三零二房间有一百间房",
    },
    "two": {
        "第2个问题很难。": "第二个问题很难。",
        "会议在2月2日举行。": "会议在二月二日举行。",
        "我去过2次北京。": "我去过两次北京。",
        "第2次去，22次，2.5倍": "第二次去，二十二次，二点五倍",
        "2部手机，2台电脑，2种药": "两部手机，两台电脑，两种药",
        "2次元": "二次元",
        "2个人": "两个人",
    },
    "heights": {"他身高1米75。": "他身高一米七五。", "1米8": "一米八", "1米75厘米": "一米七十五厘米"},
    "fractions": {"约3/4的学生": "约四分之三的学生", "近1/2": "近二分之一", "2024/3/4": "二零二四年三月四日"},
    "addresses": {"发到user123@qq.com": "发到user一二三@qq.com", "www.163.com": "www.一六三.com"},
}

JAPANESE = {
    "a hyphen after a letter": {"COVID-19の影響です。": "COVID十九の影響です。", "GPT-4です": "GPT四です"},
    "temperatures": {
        "気温は-5℃です。": "気温は摂氏マイナス五度です。",
        "気温は−5°Cです。": "気温は摂氏マイナス五度です。",
        "5〜10℃": "摂氏五から十度",
        "36.5℃": "摂氏三十六点五度",
    },
    "post codes and houses": {
        "アドレスは〒100-0001です。": "アドレスは〒一〇〇の〇〇〇一です。",
        "郵便番号は100-0001です": "郵便番号は一〇〇の〇〇〇一です",
        "千代田区1-1-1": "千代田区一の一の一",
        "3丁目2-1": "三丁目二の一",
        "電話は03-1234-5678です。": "電話はゼロ三の一二三四の五六七八です。",
        "090-1234-5678": "ゼロ九ゼロの一二三四の五六七八",
    },
    "scores and spans": {
        "2-1で勝った": "二対一で勝った",
        "3-1の勝利": "三対一の勝利",
        "5〜6人": "五から六人",
        "20-30代": "二十から三十代",
        "第10-12章": "第十から十二章",
        "5-3=2": "五マイナス三イコール二",
    },
    "homes and planes": {"2LDKです": "二LDKです", "ボーイング747": "ボーイング七四七", "501号室": "五〇一号室"},
    "addresses": {"user123@a.jpまで": "user一二三@a.jpまで"},
}


def cases(table):
    return [pair for pairs in table.values() for pair in pairs.items()]


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [("zh", *case) for case in cases(CHINESE)] + [("ja", *case) for case in cases(JAPANESE)],
)
def test_words(language, written, spoken):
    assert normalize(written, language) == spoken
    assert normalize(spoken, language) == spoken


@pytest.mark.parametrize("language", ["zh", "ja"])
@pytest.mark.parametrize("unit", ["1-", "1/", "电话1", "2次", "第1-", "a@", "第", "1米", "(1", "A-", "1~"])
def test_time_is_linear(unit, language):
    started = time.process_time()
    normalize(unit * (5000 // len(unit)) + "1", language)
    assert time.process_time() - started < 20  # up to 1.5 s; a quadratic rule takes minutes
