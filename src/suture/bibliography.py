"""The papers that Suture's methods come from, each told once: tables name them, and ``suture cite`` prints them as BibTeX."""

from dataclasses import dataclass

CVPR = "IEEE/CVF Conference on Computer Vision and Pattern Recognition"
ICLR = "International Conference on Learning Representations"
ICML = "International Conference on Machine Learning"
NEURIPS = "Advances in Neural Information Processing Systems"


@dataclass(frozen=True)
class Paper:
    """A publication.

    >>> paper = Paper("ours2026", "Suture: a demonstration", "Doe, Jane and Roe, Richard", 2026, arxiv="2601.00001")
    >>> paper.short, paper.told
    ('Suture', 'Doe and Roe, 2026')
    >>> print(paper.bibtex)
    @misc{ours2026,
      author = {Doe, Jane and Roe, Richard},
      title = {{Suture: a demonstration}},
      year = {2026},
      eprint = {2601.00001},
      archiveprefix = {arXiv},
    }
    """

    key: str
    title: str
    authors: str
    """As BibTeX wants them: family name, given names, with "and" between two."""
    year: int
    venue: str = ""
    """The proceedings or the journal; none for a preprint."""
    volume: str = ""
    """Of a journal."""
    pages: str = ""
    arxiv: str = ""

    @property
    def short(self) -> str:
        """The title as far as its colon."""
        return self.title.partition(":")[0]

    @property
    def told(self) -> str:
        """Authors and year, as texts name a paper."""
        families = [author.partition(",")[0] for author in self.authors.split(" and ")]
        return f"{f'{families[0]} et al.' if len(families) > 2 else ' and '.join(families)}, {self.year}"

    @property
    def bibtex(self) -> str:
        """The entry in BibTeX."""
        kind = "article" if self.volume else "inproceedings" if self.venue else "misc"
        fields = {
            "author": self.authors,
            "title": f"{{{self.title}}}",  # twice in braces: capitals stay
            "journal" if self.volume else "booktitle": self.venue,
            "volume": self.volume,
            "pages": self.pages,
            "year": str(self.year),
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
        }
        return bibtex_entry(kind, self.key, fields)


def bibtex_entry(kind: str, key: str, fields: dict[str, str]) -> str:
    """Return an entry in BibTeX, without the fields that are empty.

    >>> print(bibtex_entry("misc", "some", {"title": "A title", "note": ""}))
    @misc{some,
      title = {A title},
    }
    """
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


REPRESENTATION_SURGERY = Paper(
    "yang2024representation",
    "Representation Surgery for Multi-Task Model Merging",
    "Yang, Enneng and Shen, Li and Wang, Zhenyi and Guo, Guibing and Chen, Xiaojun and Wang, Xingwei and Tao, Dacheng",
    2024,
    ICML,
    arxiv="2402.02705",
)
SURGERY_V2 = Paper(
    "yang2024surgeryv2",
    "SurgeryV2: Bridging the Gap Between Model Merging and Multi-Task Learning with Deep Representation Surgery",
    "Yang, Enneng and Shen, Li and Wang, Zhenyi and Guo, Guibing and Wang, Xingwei and Cao, Xiaochun and Zhang, Jie and Tao, Dacheng",
    2024,
    arxiv="2410.14389",
)

MODEL_SOUPS = Paper(
    "wortsman2022model",
    "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference time",
    "Wortsman, Mitchell and Ilharco, Gabriel and Gadre, Samir Yitzhak and Roelofs, Rebecca and Gontijo-Lopes, Raphael and "
    "Morcos, Ari S. and Namkoong, Hongseok and Farhadi, Ali and Carmon, Yair and Kornblith, Simon and Schmidt, Ludwig",
    2022,
    ICML,
    arxiv="2203.05482",
)
TASK_ARITHMETIC = Paper(
    "ilharco2023editing",
    "Editing Models with Task Arithmetic",
    "Ilharco, Gabriel and Ribeiro, Marco Tulio and Wortsman, Mitchell and Gururangan, Suchin and Schmidt, Ludwig and "
    "Hajishirzi, Hannaneh and Farhadi, Ali",
    2023,
    ICLR,
    arxiv="2212.04089",
)
TIES = Paper(
    "yadav2023ties",
    "TIES-Merging: Resolving Interference When Merging Models",
    "Yadav, Prateek and Tam, Derek and Choshen, Leshem and Raffel, Colin and Bansal, Mohit",
    2023,
    NEURIPS,
    arxiv="2306.01708",
)
DARE = Paper(
    "yu2024language",
    "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch",
    "Yu, Le and Yu, Bowen and Yu, Haiyang and Huang, Fei and Li, Yongbin",
    2024,
    ICML,
    arxiv="2311.03099",
)
TASK_SINGULAR_VECTORS = Paper(
    "gargiulo2025task",
    "Task Singular Vectors: Reducing Task Interference in Model Merging",
    "Gargiulo, Antonio Andrea and Crisostomi, Donato and Bucarelli, Maria Sofia and Scardapane, Simone and Silvestri, Fabrizio and "
    "Rodolà, Emanuele",
    2025,
    CVPR,
    arxiv="2412.00081",
)
ISOTROPIC_MERGING = Paper(
    "marczak2025no",
    "No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces",
    "Marczak, Daniel and Magistri, Simone and Cygert, Sebastian and Twardowski, Bartłomiej and Bagdanov, Andrew D. and "
    "van de Weijer, Joost",
    2025,
    ICML,
    arxiv="2502.04959",
)
FISHER_MERGING = Paper(
    "matena2022merging",
    "Merging Models with Fisher-Weighted Averaging",
    "Matena, Michael S. and Raffel, Colin",
    2022,
    NEURIPS,
    arxiv="2111.09832",
)
REGMEAN = Paper(
    "jin2023dataless",
    "Dataless Knowledge Fusion by Merging Weights of Language Models",
    "Jin, Xisen and Ren, Xiang and Preotiuc-Pietro, Daniel and Cheng, Pengxiang",
    2023,
    ICLR,
    arxiv="2212.09849",
)
REGMEAN_PP = Paper(
    "nguyen2025regmean",
    "RegMean++: Enhancing Effectiveness and Generalization of Regression Mean for Model Merging",
    "Nguyen, The-Hai and Huu-Tien, Dang and Suzuki, Takeshi and Nguyen, Le-Minh",
    2025,
    arxiv="2508.03121",
)
FEATCAL = Paper(
    "gu2026featcal",
    "FeatCal: Feature Calibration for Post-Merging Models",
    "Gu, Yanggan and Cai, Shuo and Wang, Zihao and Wang, Wenjun and Wang, Yuanyi and Wang, Pengkai and Huang, Sirui and Lu, Su and "
    "Wu, Jianmin and Yang, Hongxia",
    2026,
    arxiv="2605.13030",
)
ADA_MERGING = Paper(
    "yang2024adamerging",
    "AdaMerging: Adaptive Model Merging for Multi-Task Learning",
    "Yang, Enneng and Wang, Zhenyi and Shen, Li and Liu, Shiwei and Guo, Guibing and Wang, Xingwei and Tao, Dacheng",
    2024,
    ICLR,
    arxiv="2310.02575",
)
CONCRETE = Paper(
    "tang2023concrete",
    "Concrete Subspace Learning based Interference Elimination for Multi-task Model Fusion",
    "Tang, Anke and Shen, Li and Luo, Yong and Ding, Liang and Hu, Han and Du, Bo and Tao, Dacheng",
    2023,
    arxiv="2312.06173",
)
REPAIR = Paper(
    "jordan2023repair",
    "REPAIR: REnormalizing Permuted Activations for Interpolation Repair",
    "Jordan, Keller and Sedghi, Hanie and Saukh, Olga and Entezari, Rahim and Neyshabur, Behnam",
    2023,
    ICLR,
    arxiv="2211.08403",
)

REDUCED_RANK = Paper(
    "izenman1975reduced",
    "Reduced-rank regression for the multivariate linear model",
    "Izenman, Alan Julian",
    1975,
    "Journal of Multivariate Analysis",
    volume="5",
    pages="248--264",
)
TRUNCATED_SVD = Paper(
    "eckart1936approximation",
    "The approximation of one matrix by another of lower rank",
    "Eckart, Carl and Young, Gale",
    1936,
    "Psychometrika",
    volume="1",
    pages="211--218",
)
LORA = Paper(
    "hu2022lora",
    "LoRA: Low-Rank Adaptation of Large Language Models",
    "Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and Wang, Shean and Wang, Lu and "
    "Chen, Weizhu",
    2022,
    ICLR,
    arxiv="2106.09685",
)
SVD_LLM = Paper(
    "wang2025svdllm",
    "SVD-LLM: Truncation-aware Singular Value Decomposition for Large Language Model Compression",
    "Wang, Xin and Zheng, Yu and Wan, Zhongwei and Zhang, Mi",
    2025,
    ICLR,
    arxiv="2403.07378",
)
PROTOTYPES = Paper(
    "snell2017prototypical",
    "Prototypical Networks for Few-shot Learning",
    "Snell, Jake and Swersky, Kevin and Zemel, Richard",
    2017,
    NEURIPS,
    arxiv="1703.05175",
)
CLIP = Paper(
    "radford2021learning",
    "Learning Transferable Visual Models From Natural Language Supervision",
    "Radford, Alec and Kim, Jong Wook and Hallacy, Chris and Ramesh, Aditya and Goh, Gabriel and Agarwal, Sandhini and Sastry, Girish and "
    "Askell, Amanda and Mishkin, Pamela and Clark, Jack and Krueger, Gretchen and Sutskever, Ilya",
    2021,
    ICML,
    arxiv="2103.00020",
)
